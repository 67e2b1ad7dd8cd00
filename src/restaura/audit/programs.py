# SPDX-License-Identifier: GPL-3.0-or-later
"""What the commands of a backup do: which program takes what, where it writes, whether that is another machine.

One function for each family of programs, in `PROGRAMS` by the names they are called by. Options are those of the
programs' own manuals; what is not known of a command is left open, never guessed to be safe.
"""

import posixpath
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from restaura.audit.model import HolderKind, Take
from restaura.audit.shell import UNKNOWN, Command, read_shell

REMOTE = re.compile(r"(?:[\w.+-]+@)?[\w.*-]+:(?!//)|[a-z][a-z0-9+.-]*://|[a-z0-9]+:[\w.*-]+", re.IGNORECASE)
BACKUP_WORD = re.compile(r"back[-_]?ups?|bkps?\b|\bbak\b|dumps?\b|snapshot|archiv|\bcopias?\b|respaldo", re.IGNORECASE)
NOTIFIERS = {
    "mail",
    "mailx",
    "s-nail",
    "sendmail",
    "msmtp",
    "mutt",
    "swaks",
    "apprise",
    "ntfy",
    "notify",
    "healthchecks",
}
WATCHERS = re.compile(
    r"hc-ping|healthchecks|/ping/|hooks\.slack|api\.telegram|ntfy|discord|uptime|pushover|cronitor|gotify|webhook"
    r"|pushgateway|/api/push|betterstack|opsgenie|pagerduty",
    re.IGNORECASE,
)


@dataclass
class Facts:
    """What was found out of commands. `backs_up` is whether they make a backup at all, `restores` whether they restore.

    `writes` are host paths with `*` for what changes, or addresses of other machines, which `remotes` are as well;
    `ways` say of each pipeline what it takes and where it puts that.
    `programs` are those that do it, `restorers` those that restore, `configs` the programs whose own settings say what
    is taken.
    """

    backs_up: bool = False
    restores: bool = False
    notifies: bool = False
    encrypted: bool = False
    programs: list[str] = field(default_factory=list)
    restorers: list[str] = field(default_factory=list)
    takes: list[Take] = field(default_factory=list)
    writes: list[str] = field(default_factory=list)
    ways: list[tuple[tuple[Take, ...], tuple[str, ...]]] = field(default_factory=list)
    remotes: list[str] = field(default_factory=list)
    configs: list[str] = field(default_factory=list)
    dumps: list[Command] = field(default_factory=list)

    def write(self, target: str) -> None:
        """Note a place that is written to."""
        if REMOTE.match(target) and not target.startswith("/"):
            self.remotes.append(address(target))
            self.writes.append(address(target))
        elif target and target not in ("-", "/dev/stdout", "/dev/null"):
            self.writes.append(target)

    def take(self, kind: HolderKind, names: str, where: "Where", host: str = "") -> None:
        """Note a database; several names stand with spaces between them, and an unknown one is all of them.

        `host` is the machine or container that is asked for it, where that is another than the command's own.
        """
        names = "" if UNKNOWN in names else names
        here = not host or host in ("localhost", "127.0.0.1", "::1", UNKNOWN) or host.startswith("/")
        for name in names.split() or [""]:
            self.takes.append(Take(kind, name, where.container if here else host, where.project))

    def take_path(self, path: str, where: "Where") -> None:
        """Note a path, or the volume that is mounted there."""
        for one in path.split(" /") if path.startswith("/") else [path]:
            self.takes += _place(one if one.startswith(("/", UNKNOWN)) or one == path else f"/{one}", where)

    def merge(self, other: "Facts") -> None:
        """Add what was found of other commands."""
        for name in ("backs_up", "restores", "notifies", "encrypted"):
            setattr(self, name, getattr(self, name) or getattr(other, name))
        for name in ("programs", "restorers", "takes", "writes", "ways", "remotes", "configs", "dumps"):
            held = getattr(self, name)
            held += [one for one in getattr(other, name) if one not in held]


@dataclass(frozen=True)
class Where:
    """Where a command runs: on the host, or in a container, with what is mounted there."""

    container: str = ""
    project: str = ""
    mounts: tuple[tuple[str, str], ...] = ()
    directory: str = ""
    named: bool = False


def address(target: str) -> str:
    """Return the address of another machine without an account's name and password."""
    return re.sub(r"://[^/@\s]*@", "://", re.sub(r"[?#].*", "", target))


def options(words: Sequence[str], valued: str) -> tuple[dict[str, str], list[str]]:
    """Return a command's options with their values, and its other words.

    `valued` names the options that have a value, without dashes: letters and long names. Short ones may be written
    together (`-Ft`), long ones with `=`.
    """
    names, found, rest = set(valued.split()), dict[str, str](), list[str]()
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        if word == "--":
            return found, rest + waiting
        if word.startswith("--"):
            name, given, value = word[2:].partition("=")
            found[name] = value if given or name not in names or not waiting else waiting.pop(0)
        elif word.startswith("-") and len(word) > 1:
            for number, letter in enumerate(word[1:], 2):
                if letter in names:
                    found[letter] = word[number:] or (waiting.pop(0) if waiting else "")
                    break
                found[letter] = ""
        else:
            rest.append(word)
    return found, rest


# Programs at the end of a pipeline that send what they read to another machine.
SENDERS = {"ssh", "nc", "aws", "rclone", "gsutil", "s3cmd", "mc", "curl"}
Reader = Callable[[Command, dict[str, str], Where, Facts], None]
POSTGRES = "d dbname f file F format h host p port U username n N t T j Z E S W e exclude-schema exclude-table jobs l"


def read(commands: Iterable[Command], variables: dict[str, str], where: Where = Where()) -> Facts:
    """Return what commands do, given a script's variables."""
    facts, pipelines = Facts(), dict[int, list[Command]]()
    for command in commands:
        pipelines.setdefault(command.pipeline, []).append(command)
    for pipeline in pipelines.values():
        facts.merge(_read_pipeline(pipeline, variables, where))
    return facts


def _read_pipeline(pipeline: list[Command], variables: dict[str, str], where: Where) -> Facts:
    """Return what a pipeline does: the data of its first command goes where its last one puts it."""
    facts, last = Facts(), posixpath.basename((pipeline[-1].words or ("",))[0])
    named = any(BACKUP_WORD.search(output) for one in pipeline for output in one.outputs)
    where = replace(where, named=where.named or named or (len(pipeline) > 1 and last in SENDERS))
    for command in pipeline:
        one = read_command(command, variables, where)
        if facts.backs_up and not one.backs_up:
            redirects(command, one, where)
            if last in ("ssh", "nc") and command is pipeline[-1]:
                one.write(f"ssh://{_ssh_host(command.words)}")
        facts.merge(one)
    if facts.takes and facts.writes:
        facts.ways = [(tuple(facts.takes), tuple(facts.writes))]
    return facts


def read_command(command: Command, variables: dict[str, str], where: Where) -> Facts:
    """Return what one command does."""
    facts = Facts()
    words = command.words
    while words and posixpath.basename(words[0]) in WRAPPERS:
        words = _unwrapped(words)
    if not words:
        return facts
    name = posixpath.basename(words[0])
    text = inner_shell(words)
    if text is not None and text != UNKNOWN:
        script = read_shell(text, variables, command.line)
        facts.merge(read([replace(one, line=command.line) for one in script.commands], script.variables, where))
    reader = PROGRAMS.get(name)
    if name in NOTIFIERS or (name in ("curl", "wget") and any(map(WATCHERS.search, words))):
        facts.notifies = True
    if reader is not None and not _only_tells(name, words):
        where = replace(where, directory=variables.get("PWD", UNKNOWN))
        reader(replace(command, words=tuple(words)), variables, where, facts)
    if facts.restores:
        facts.restorers = facts.restorers or [name]
    if facts.backs_up:
        facts.programs = facts.programs or [name]
        facts.dumps = [command]
        redirects(command, facts, where)
    return facts


def _only_tells(name: str, words: Sequence[str]) -> bool:
    """Whether a program is asked what it would do, and does nothing."""
    short = name in ("restic", "borg", "rsync", "rclone") and any(
        re.fullmatch(r"-[a-zA-Z]*n[a-zA-Z]*", x) for x in words
    )
    return short or "--dry-run" in words


def redirects(command: Command, facts: Facts, where: Where) -> None:
    """Note the files that a command's output goes to, but for logs."""
    for one in command.outputs:
        if not one.endswith((".log", ".err", ".out")) and not one.startswith(("/dev/", "/var/log/")):
            facts.write(_host_path(one, where))


# Commands that run another command: how many words they take themselves, after their options.
WRAPPERS = {
    **dict.fromkeys(("nice", "ionice", "chrt", "time", "nohup", "exec", "command", "chronic", "cronic", "eval"), 0),
    **dict.fromkeys(("sudo", "doas", "env", "setsid", "systemd-inhibit", "systemd-run", "systemd-cat", "stdbuf"), 0),
    **dict.fromkeys(("timeout", "flock", "lckdo", "setlock", "chroot", "runitor"), 1),
}


def _unwrapped(words: Sequence[str]) -> tuple[str, ...]:
    name = posixpath.basename(words[0])
    rest = list(words[1:])
    while rest and (rest[0].startswith("-") or re.match(r"[A-Za-z_]\w*=", rest[0])):
        option = rest.pop(0)
        if rest and re.fullmatch(r"-[nucgptskwC]", option) and not (name == "sudo" and option == "-n"):
            rest.pop(0)
    return tuple(rest[WRAPPERS[name] :])


def inner_shell(words: Sequence[str]) -> str | None:
    """Return the text that `sh -c TEXT` and the like run; None when a command is none of these."""
    while words and posixpath.basename(words[0]) in WRAPPERS:
        if posixpath.basename(words[0]) == "flock" and "-c" in words:
            return words[words.index("-c") + 1] if words.index("-c") + 1 < len(words) else None
        words = _unwrapped(words)
    if not words or posixpath.basename(words[0]) not in ("sh", "bash", "dash", "ash", "zsh", "ksh", "su", "runuser"):
        return None
    for number, word in enumerate(words[1:-1], 1):
        if word in ("-c", "--command") or re.fullmatch(r"-[a-z]*c", word):
            return words[number + 1]
    return None


def script_called(words: Sequence[str]) -> str | None:
    """Return the path, or bare name, of the script that a command calls, be it through its interpreter."""
    while words and posixpath.basename(words[0]) in WRAPPERS:
        words = _unwrapped(words)
    if not words:
        return None
    name = posixpath.basename(words[0])
    if name in (".", "source") or re.fullmatch(r"(ba|da|a|z|k)?sh|python[\d.]*|perl|ruby|node|php[\d.]*", name):
        rest = [word for word in words[1:] if not word.startswith("-")]
        return rest[0] if rest and "-c" not in words[1:2] else None
    return words[0]


def _host_path(path: str, where: Where) -> str:
    """Return where on the host a container's path is; paths that are relative begin at the working directory."""
    if where.container or where.mounts:
        for source, target in where.mounts:
            if path == target or path.startswith(target.rstrip("/") + "/"):
                return source + path[len(target.rstrip("/")) :] if source.startswith("/") else ""
        return ""
    if path.startswith(("/", UNKNOWN)) or (REMOTE.match(path) and not path.startswith(".")):
        return path
    return posixpath.normpath(f"{where.directory}/{path}") if where.directory.startswith("/") else f"{UNKNOWN}/{path}"


def _place(path: str, where: Where) -> list[Take]:
    if where.mounts or where.container:
        path = posixpath.normpath(posixpath.join(where.directory, path))
        inside = [one for one in where.mounts if one[1] == path or one[1].startswith(path.rstrip("/") + "/")]
        inside += [one for one in where.mounts if path.startswith(one[1].rstrip("/") + "/") and one not in inside]
        found = []
        for source, _ in inside:
            named = source.startswith("/")
            found.append(Take("path", source) if named else Take("docker_volume", source.replace(UNKNOWN, "")))
        return found
    whole = _host_path(path, where)
    # normpath(3) keeps two slashes at the beginning.
    return [Take("path", posixpath.normpath(f"/{whole.lstrip('/')}"))] if whole.startswith("/") else []


# Databases


def _database(uri: str) -> str:
    """Return the database that a connection string names."""
    if match := re.match(r"[a-z][\w+]*://[^/]*/([^?]*)", uri):
        return match[1]
    if match := re.search(r"(?:^|\s)dbname\s*=\s*'?([^'\s]*)", uri):
        return match[1]
    return "" if "=" in uri or "://" in uri else uri


def _host(given: dict[str, str], variables: dict[str, str]) -> str:
    """Return the host that a database client is told to ask, also within a connection string."""
    uri = given.get("d") or given.get("dbname") or given.get("uri") or ""
    if match := re.match(r"[a-z][\w+]*://(?:[^/@]*@)?([^/:,?]*)|.*\bhost\s*=\s*'?([^'\s]*)", uri):
        return match[1] or match[2] or ""
    return given.get("h") or given.get("host") or variables.get("PGHOST", "")


def _pg_dump(command: Command, variables: dict[str, str], where: Where, facts: Facts) -> None:
    given, rest = options(command.words[1:], POSTGRES)
    name = given.get("d") or given.get("dbname") or (rest[0] if rest else "") or variables.get("PGDATABASE", "")
    facts.backs_up = True
    if not {"s", "schema-only"} & set(given):
        facts.take("postgres", _database(name), where, _host({**given, "dbname": name, "d": ""}, variables))
    facts.write(_file(given, where))


def _file(given: dict[str, str], where: Where, *names: str) -> str:
    """Return the file that options name, as a path of the host."""
    value = next((given[name] for name in (*names, "f", "file") if given.get(name)), "")
    return _host_path(value, where) if value else ""


def _pg_dumpall(command: Command, variables: dict[str, str], where: Where, facts: Facts) -> None:
    given, _ = options(command.words[1:], POSTGRES)
    facts.backs_up = True
    if not {"g", "globals-only", "r", "roles-only", "t", "tablespaces-only", "s", "schema-only"} & set(given):
        facts.take("postgres", "", where, _host(given, variables))
    facts.write(_file(given, where))


def _pg_basebackup(command: Command, variables: dict[str, str], where: Where, facts: Facts) -> None:
    given, _ = options(command.words[1:], f"{POSTGRES} D pgdata X c r l")
    facts.backs_up = True
    facts.take("postgres", "", where, _host(given, variables))
    facts.write(_file(given, where, "D", "pgdata"))


def _pg_backupcluster(command: Command, _variables: dict[str, str], where: Where, facts: Facts) -> None:
    words = [one for one in command.words[1:] if not one.startswith("-")]
    if words[-1:] in (["basebackup"], ["dump"], ["receivewal"]):
        facts.backs_up = True
        facts.take("postgres", "", where)
        facts.write("/var/backups/postgresql")


def _mysqldump(command: Command, _variables: dict[str, str], where: Where, facts: Facts) -> None:
    valued = "u user h host P port S socket r result-file defaults-file defaults-extra-file ignore-table where"
    given, rest = options([one for one in command.words[1:] if not re.match(r"-p.", one)], valued)
    facts.backs_up = True
    every = {"A", "all-databases"} & set(given) or not rest
    names = rest if {"B", "databases"} & set(given) else rest[:1]
    if not {"d", "no-data"} & set(given):
        facts.take("mysql", "" if every else " ".join(names), where, _host(given, {}))
    facts.write(_file(given, where, "r", "result-file"))


def _mysql_whole(command: Command, _variables: dict[str, str], where: Where, facts: Facts) -> None:
    given, _ = options(command.words[1:], "u user h host o outputdir target-dir datadir defaults-file B database")
    if "prepare" not in given and "copy-back" not in given:
        facts.backs_up = True
        facts.take("mysql", given.get("B") or given.get("database", ""), where)
        facts.write(_file(given, where, "target-dir", "o", "outputdir"))
    facts.restores = "copy-back" in given


def _mongodump(command: Command, _variables: dict[str, str], where: Where, facts: Facts) -> None:
    valued = "h host port u username p password d db c collection o out archive uri authenticationDatabase config"
    given, rest = options(command.words[1:], valued)
    facts.backs_up = True
    name = given.get("d") or given.get("db") or _database(given.get("uri") or "".join(rest[:1]))
    facts.take("mongodb", name, where, _host(given, {}))
    facts.write(_file(given, where, "archive", "o", "out"))


def _redis(command: Command, _variables: dict[str, str], where: Where, facts: Facts) -> None:
    given, _ = options(command.words[1:], "h p a n s u rdb user pass")
    if "rdb" in given:
        facts.backs_up = True
        facts.take("redis", "", where, _host(given, {}))
        facts.write(_host_path(given["rdb"], where))


def _sqlite(command: Command, _variables: dict[str, str], where: Where, facts: Facts) -> None:
    files = [one for one in command.words[1:] if not one.startswith("-")]
    asks = re.compile(r"\s*(\.backup|\.dump|\.clone|vacuum\s+into)\s*(?:main\s+)?['\"]?([^'\"\s]*)", re.IGNORECASE)
    for one in files[1:]:
        if match := asks.match(one):
            facts.backs_up = True
            facts.take_path(files[0], where)
            facts.write(_host_path(match[2], where) if match[2] else "")


def _restoring(_command: Command, _variables: dict[str, str], _where: Where, facts: Facts) -> None:
    facts.restores = True


def _client(command: Command, _variables: dict[str, str], _where: Where, facts: Facts) -> None:
    """Read a dump into a database: from a file, or at the end of a pipeline from a program that unpacks one."""
    facts.restores = bool(command.inputs) or "-f" in command.words


# Files


TAR = (
    "C directory exclude exclude-from X T files-from f file g listed-incremental transform warning K N I "
    "use-compress-program"
)


def _tar(command: Command, _variables: dict[str, str], where: Where, facts: Facts) -> None:
    words = list(command.words[1:])
    if words and re.fullmatch(r"[A-Za-z]+", words[0]):
        words[0] = f"-{words[0]}"
    letters = "".join(one[1:] for one in words if re.fullmatch(r"-[A-Za-z]+", one))
    if "x" in letters or "--extract" in words:
        facts.restores = True
        return
    if not ("c" in letters or "--create" in words):
        return
    valued = TAR
    bundled = [part for one in words for part in _bundle(one)]
    given, _ = options(bundled, valued)
    archive = given.get("f") or given.get("file") or "-"
    base, paths = "", list[str]()
    waiting = iter(bundled)
    for word in waiting:
        if word in ("-C", "--directory"):
            base = next(waiting, "")
        elif word.startswith("--directory="):
            base = word.partition("=")[2]
        elif word.startswith("-"):
            if word.lstrip("-") in valued.split() and "=" not in word:
                next(waiting, "")
        else:
            paths.append(word if word.startswith("/") or not base else posixpath.normpath(f"{base}/{word}"))
    target = archive if archive == "-" else _host_path(archive, where)
    _copied(command, paths, [target], where, facts)


def _bundle(word: str) -> list[str]:
    """Return tar's letters with `f` and `C` last, apart: `-czf` is `-cz -f`."""
    if re.fullmatch(r"-[A-Za-z]+", word) and len(word) > 2 and word[-1] in "fCTX":
        return [word[:-1], f"-{word[-1]}"]
    return [word]


def _copied(command: Command, sources: list[str], targets: list[str], where: Where, facts: Facts) -> None:
    """Note a copy of files, if it is a backup: to another machine, to a place named so, or by something named so."""
    targets = [one for one in targets if one]
    remote = any(REMOTE.match(one) and not one.startswith("/") for one in targets)
    named = any(map(BACKUP_WORD.search, [*targets, *command.outputs]))
    named = named or any(re.match(r"/(mnt|media|nas|net)/", one) for one in targets)
    if not (remote or named or where.named or (where.mounts and targets)):
        return
    facts.backs_up = True
    for one in sources:
        if not REMOTE.match(one) or one.startswith(("/", "./")):
            facts.take_path(one, where)
    for one in targets:
        facts.write(one)


RSYNC = (
    "e rsh exclude include exclude-from include-from files-from bwlimit password-file log-file link-dest backup-dir "
    "port timeout rsync-path chmod chown f filter suffix max-size min-size T temp-dir compare-dest partial-dir "
    "out-format B M"
)


def _rsync(command: Command, _variables: dict[str, str], where: Where, facts: Facts) -> None:
    _, rest = options(command.words[1:], RSYNC)
    _to_last(command, rest, where, facts)


def _cp(command: Command, _variables: dict[str, str], where: Where, facts: Facts) -> None:
    given, rest = options(command.words[1:], "t target-directory S suffix o P i F c l m g")
    if given.get("t"):
        rest.append(given["t"])
    _to_last(command, rest, where, facts)


def _to_last(command: Command, words: list[str], where: Where, facts: Facts) -> None:
    if len(words) > 1 and not all(REMOTE.match(one) and not one.startswith("/") for one in words[:-1]):
        target = words[-1]
        remote = REMOTE.match(target) and not target.startswith("/")
        _copied(command, words[:-1], [target if remote else _host_path(target, where)], where, facts)
        if BACKUP_WORD.search(" ".join(words[:-1])) and not facts.backs_up:
            facts.restores = True


def _zip(command: Command, _variables: dict[str, str], where: Where, facts: Facts) -> None:
    words = [one for one in command.words[1:] if not one.startswith("-") and one not in ("a", "u")]
    if words and "x" not in command.words[1:2]:
        _copied(command, words[1:], [_host_path(words[0], where)], where, facts)


def _cloud(command: Command, _variables: dict[str, str], where: Where, facts: Facts) -> None:
    """Read `aws s3 cp`, `rclone sync`, `mc mirror` and the like: sources, then an address."""
    valued = (
        "profile endpoint-url region config transfers log-file bwlimit exclude include storage-class c e acl sse filter"
    )
    _, rest = options(command.words[1:], valued)
    verbs = {"cp", "sync", "copy", "copyto", "move", "mv", "put", "mirror", "rcat", "upload", "upload-file", "rsync"}
    for number, word in enumerate(rest):
        if word in verbs:
            targets = rest[number + 1 :]
            if word == "rcat":
                facts.backs_up = True
                facts.write(targets[0] if targets else "")
            elif len(targets) > 1 and targets[-1].startswith("/") and not targets[0].startswith("/"):
                facts.restores = True
            elif len(targets) > 1:
                sources = [one for one in targets[:-1] if one != "-"]
                target = targets[-1]
                target = target if REMOTE.match(target) else f"{posixpath.basename(command.words[0])}:{target}"
                _copied(command, sources, [target], where, facts)
            return


def _curl(command: Command, _variables: dict[str, str], where: Where, facts: Facts) -> None:
    given, rest = options(
        command.words[1:], "T upload-file u user H header d data X request o output F form m max-time"
    )
    sent = given.get("T") or given.get("upload-file")
    if sent and rest:
        _copied(command, [] if sent == "-" else [sent], [rest[-1]], where, facts)


def _transfer(command: Command, _variables: dict[str, str], where: Where, facts: Facts) -> None:
    """Read lftp, sftp and the like: that they send something is all that can be told."""
    hosts = [one for one in command.words[1:] if re.search(r"[\w-]\.[\w.-]+|@|://", one)]
    text = " ".join(command.words)
    if hosts and re.search(r"\b(put|mput|mirror\s+(-\S+\s+)*-\S*R|put|ncftpput)\b", text):
        facts.backs_up = True
        for one in re.findall(r"(?:mirror|put)\s+(?:-\S+\s+)*(/[\w./-]+)", text):
            facts.take_path(one, where)
        facts.write(f"ftp://{address(hosts[0]).rpartition('@')[2].removeprefix('ftp://')}")


def _ssh_host(words: Sequence[str]) -> str:
    _, rest = options(words[1:], "p i o l F J L R D b c m S W E e")
    return rest[0].rpartition("@")[2] if rest else UNKNOWN


def _ssh(command: Command, variables: dict[str, str], where: Where, facts: Facts) -> None:
    """What runs on another machine takes that one's data, and not this one's."""


def _encrypting(command: Command, _variables: dict[str, str], where: Where, facts: Facts) -> None:
    given, _ = options(command.words[1:], "o output r recipient out in pass k R i passphrase-file homedir default-key")
    words = set(command.words)
    if {"-d", "--decrypt", "-D"} & words:
        facts.restores = "restore" in " ".join(words)
        return
    facts.encrypted = True
    target = given.get("o") or given.get("output") or given.get("out")
    if target:
        facts.write(_host_path(target, where))


def _tee(command: Command, _variables: dict[str, str], where: Where, facts: Facts) -> None:
    for one in command.words[1:]:
        if not one.startswith("-") and BACKUP_WORD.search(one) and not one.endswith(".log"):
            facts.write(_host_path(one, where))


# Backup programs


def _restic(command: Command, variables: dict[str, str], where: Where, facts: Facts) -> None:
    valued = (
        "r repo p password-file tag e exclude exclude-file host H files-from o limit-upload stdin-filename iexclude "
        "password-command cache-dir repository-file target t compression retry-lock parent"
    )
    given, rest = options(command.words[1:], valued)
    if rest[:1] in (["restore"], ["mount"], ["dump"]):
        facts.restores = True
    if rest[:1] != ["backup"]:
        return
    facts.backs_up = facts.encrypted = True
    facts.programs = ["restic"]
    for one in rest[1:]:
        facts.take_path(one, where)
    repository = given.get("r") or given.get("repo") or variables.get("RESTIC_REPOSITORY", "")
    facts.write(_repository(repository, where))


def _repository(text: str, where: Where) -> str:
    """Return a repository's place; local ones may be written as `local:PATH` and `file://PATH`."""
    text = re.sub(r"^(local:|file://)", "", text)
    return text if REMOTE.match(text) and not text.startswith("/") else _host_path(text, where) if text else UNKNOWN


def _borg(command: Command, variables: dict[str, str], where: Where, facts: Facts) -> None:
    given, rest = options(
        command.words[1:],
        "C compression e exclude exclude-from patterns-from pattern comment rsh remote-path umask a P prefix lock-wait "
        "r repo files-cache checkpoint-interval timestamp repository",
    )
    if rest[:1] in (["extract"], ["mount"], ["export-tar"]):
        facts.restores = True
    if rest[:1] != ["create"] or len(rest) < 2:
        return
    facts.backs_up = True
    facts.programs = ["borg"]
    repository = rest[1].partition("::")[0] or given.get("r") or given.get("repo") or variables.get("BORG_REPO", "")
    for one in rest[2:]:
        facts.take_path(one, where)
    facts.write(_repository(repository, where))


def _configured(command: Command, _variables: dict[str, str], _where: Where, facts: Facts) -> None:
    """Read a program whose own settings say what it takes."""
    name = posixpath.basename(command.words[0])
    _, words = options(command.words[1:], "verbosity v c config log-file stanza wait plan log-level-console repo")
    restoring = {"restore", "extract", "recover", "drill", "backup-fetch", "mount"}
    if restoring & set(words):
        facts.restores = True
        return
    asked = {
        "pgbackrest": {"backup"},
        "wal-g": {"backup-push"},
        "barman": {"backup", "cron"},
        "restaura": {"run"},
        "borgmatic": {"create", ""},
    }.get(name)
    if asked is None or asked & {*words, *({""} if not words else set())} or (name == "borgmatic" and not words):
        facts.backs_up = True
        facts.programs = [name]
        facts.configs.append(name)


def _duplicity(command: Command, _variables: dict[str, str], where: Where, facts: Facts) -> None:
    given, rest = options(command.words[1:], "exclude include full-if-older-than encrypt-key sign-key archive-dir name")
    words = [one for one in rest if one not in ("full", "incr", "incremental", "backup")]
    if rest[:1] in (["restore"], ["verify"]) or (words[:1] and REMOTE.match(words[0])):
        facts.restores = True
    elif len(words) > 1 and rest[0] not in ("cleanup", "remove-older-than", "collection-status"):
        facts.backs_up, facts.encrypted = True, "no-encryption" not in given
        facts.take_path(words[0], where)
        facts.write(words[1].removeprefix("file://"))


def _rdiff(command: Command, _variables: dict[str, str], where: Where, facts: Facts) -> None:
    _, rest = options(
        command.words[1:], "exclude include remove-older-than r restore-as-of print-statistics remote-schema"
    )
    rest = [one for one in rest if one != "backup"]
    if "restore" in rest or "-r" in command.words:
        facts.restores = True
    elif len(rest) == 2:
        facts.backs_up = True
        facts.take_path(rest[0], where)
        facts.write(rest[1].replace("::", ":"))


def _kopia(command: Command, _variables: dict[str, str], where: Where, facts: Facts) -> None:
    _, rest = options(command.words[1:], "config-file p password tags")
    facts.restores = "restore" in rest
    if rest[:2] in (["snapshot", "create"], ["snap", "create"]):
        facts.backs_up = facts.encrypted = True
        for one in rest[2:]:
            facts.take_path(one, where)
        facts.write(UNKNOWN)


# Containers


def _docker(command: Command, variables: dict[str, str], where: Where, facts: Facts) -> None:
    """Read `docker exec`, `docker compose exec`, `docker run`: what runs there is read as if it ran here."""
    words = list(command.words[1:])
    compose = posixpath.basename(command.words[0]) == "docker-compose"
    project = ""
    valued = {"-f", "--file", "-p", "--project-name", "-H", "--host", "--context", "--env-file", "--project-directory"}
    while words and (words[0].startswith("-") or words[0] == "compose"):
        option = words.pop(0)
        compose = compose or option == "compose"
        if option in valued and words:
            value = words.pop(0)
            if option in ("-p", "--project-name"):
                project = value
            elif option in ("-f", "--file", "--project-directory"):
                project = project or posixpath.basename(
                    posixpath.dirname(value) if option != "--project-directory" else value
                )
    if words[:1] == ["container"]:
        words.pop(0)
    verb = words.pop(0) if words else ""
    if verb == "exec":
        takes = {"-e", "--env", "-u", "--user", "-w", "--workdir", "--env-file", "--index"}
        container, inner = _target(words, takes)
        if compose and not project:
            project = posixpath.basename(variables.get("PWD", ""))
        _inside(command, inner, variables, Where(container, project if compose else ""), facts)
    elif verb == "run":
        _run(command, words, variables, facts)
    elif verb == "cp" and words:
        sources = [one for one in words if not one.startswith("-")]
        if len(sources) == 2 and ":" in sources[0] and BACKUP_WORD.search(sources[1]):
            facts.backs_up = True
            facts.write(_host_path(sources[1], where))
        elif len(sources) == 2 and ":" in sources[1]:
            facts.restores = bool(BACKUP_WORD.search(sources[0]))


def _target(words: list[str], valued: set[str]) -> tuple[str, list[str]]:
    """Return the first word that is no option, and those after it."""
    waiting = list(words)
    while waiting and waiting[0].startswith("-"):
        option = waiting.pop(0)
        if option in valued and waiting:
            waiting.pop(0)
    return (waiting[0], waiting[1:]) if waiting else ("", [])


def _run(command: Command, words: list[str], variables: dict[str, str], facts: Facts) -> None:
    plain = {
        "-d",
        "--detach",
        "--rm",
        "-i",
        "-t",
        "-it",
        "-ti",
        "--interactive",
        "--tty",
        "--privileged",
        "--init",
        "-P",
    }
    mounts, volumes_from = list[tuple[str, str]](), ""
    waiting = list(words)
    while waiting and waiting[0].startswith("-"):
        option, given, value = waiting.pop(0).partition("=")
        if not given and option not in plain and waiting:
            value = waiting.pop(0)
        if option in ("-v", "--volume"):
            source, _, target = value.partition(":")
            mounts.append((source, target.partition(":")[0]))
        elif option == "--mount":
            parts = dict(one.partition("=")[::2] for one in value.split(","))
            source = parts.get("source") or parts.get("src", "")
            mounts.append((source, parts.get("target") or parts.get("dst") or parts.get("destination", "")))
        elif option == "--volumes-from":
            volumes_from = value
    image, inner = (waiting[0], waiting[1:]) if waiting else ("", [])
    where = Where(container="", mounts=tuple(mounts), named=bool(BACKUP_WORD.search(image)))
    known = bool(inner) and (posixpath.basename(inner[0]) in PROGRAMS or inner_shell(inner) is not None)
    if inner and not known:  # arguments of the image's own program
        inner = [posixpath.basename(image).partition(":")[0], *inner]
    _inside(command, inner, variables, where, facts)
    if volumes_from and facts.backs_up:
        facts.takes.append(Take("docker_volume", "", volumes_from))
    if where.named and not facts.backs_up:
        facts.backs_up = True
        facts.takes += [take for _, target in mounts for take in _place(target, where)]


def _inside(command: Command, words: list[str], variables: dict[str, str], where: Where, facts: Facts) -> None:
    variables = {**variables, "PWD": "/"}
    facts.merge(read_command(replace(command, words=tuple(words), outputs=()), variables, where))


PROGRAMS: dict[str, Reader] = {
    "pg_dump": _pg_dump,
    "pg_dumpall": _pg_dumpall,
    "pg_basebackup": _pg_basebackup,
    "pg_backupcluster": _pg_backupcluster,
    **dict.fromkeys(("mysqldump", "mariadb-dump"), _mysqldump),
    **dict.fromkeys(("mydumper", "xtrabackup", "mariabackup", "mariadb-backup", "innobackupex"), _mysql_whole),
    "mongodump": _mongodump,
    **dict.fromkeys(("redis-cli", "valkey-cli"), _redis),
    "sqlite3": _sqlite,
    **dict.fromkeys(("pg_restore", "mongorestore", "myloader"), _restoring),
    **dict.fromkeys(("psql", "mysql", "mariadb"), _client),
    **dict.fromkeys(("tar", "gtar", "bsdtar"), _tar),
    "rsync": _rsync,
    **dict.fromkeys(("cp", "mv", "scp"), _cp),
    **dict.fromkeys(("zip", "7z", "7za", "7zr"), _zip),
    **dict.fromkeys(("aws", "rclone", "s3cmd", "s5cmd", "mc", "mcli", "gsutil", "gcloud", "azcopy", "b2"), _cloud),
    "curl": _curl,
    **dict.fromkeys(("lftp", "sftp", "ftp", "ncftpput"), _transfer),
    "ssh": _ssh,
    **dict.fromkeys(("gpg", "gpg2", "age", "openssl", "ccrypt"), _encrypting),
    "tee": _tee,
    "restic": _restic,
    "borg": _borg,
    **dict.fromkeys(("borgmatic", "pgbackrest", "wal-g", "barman", "restaura", "rsnapshot", "duply"), _configured),
    **dict.fromkeys(("automysqlbackup", "autopostgresqlbackup", "backupninja", "backup2l", "tarsnap"), _configured),
    "duplicity": _duplicity,
    "rdiff-backup": _rdiff,
    "kopia": _kopia,
    **dict.fromkeys(("docker", "podman", "docker-compose", "nerdctl"), _docker),
}
