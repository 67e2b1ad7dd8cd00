# SPDX-License-Identifier: GPL-3.0-or-later
"""The jars of mongo-java-server, the re-implementation of MongoDB that tests run: nothing else can be had."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from tools.lab import daemon
from tools.lab.common import CACHE, LabError, lock, run

ARTIFACT = "de.bwaldvogel:mongo-java-server-h2-backend:1.47.0"
MAIN = "de.bwaldvogel.mongo.H2MongoServer"
SHA256 = {
    "h2-2.3.232.jar": "8dae62d22db8982c3dcb3826edb9c727c5d302063a67eef7d63d82de401f07d3",
    "mongo-java-server-core-1.47.0.jar": "9a34c9ad6ac6261906295481838256033ec1efc8c93a3e3828e5d47a006b0bd4",
    "mongo-java-server-h2-backend-1.47.0.jar": "58ca6760a25f8a05adfe8a0f7a8a042ca22bd472869028755931507cdce20e71",
    "netty-buffer-4.2.2.Final.jar": "4820eeb2d3db269b20b30711e3d7d21979664249aaf10fc67f90dee935810747",
    "netty-codec-4.2.2.Final.jar": "6a4ea3cedc831a377e20e32da5df4d2a47b954810e941138e3358e313db3a7f9",
    "netty-codec-base-4.2.2.Final.jar": "76987614ccb2fda7d3292b69ba5b61351f30e91bf5c7d8fa4b51bc32c9f67456",
    "netty-codec-compression-4.2.2.Final.jar": "005734e20aceb5e2c030033f7e042c81ee444497efd110cfca8de445642652ac",
    "netty-codec-marshalling-4.2.2.Final.jar": "ae8bb7a077ca02357c922e3abc1acf1bf191d5e2776721d69cbca50a16281096",
    "netty-codec-protobuf-4.2.2.Final.jar": "cfe0c7e6e68d83480a639b533eb7edaaf3252cfae8b73d0e362859673a4f9d97",
    "netty-common-4.2.2.Final.jar": "5d022f3acad74cb0f195f60213500a4000d1340e5e941edaf1a0e756686b9bae",
    "netty-handler-4.2.2.Final.jar": "d4ef582c78125457baa0cfa52992b5fb1bb9172d1a2c03b726e8b26e17d3fe2c",
    "netty-resolver-4.2.2.Final.jar": "fa7841ffe2e39d52251814fb8560d6936b10ae7c67453ee50426b83fd5170ba0",
    "netty-transport-4.2.2.Final.jar": "116d766a1af4722fe76a4cdaed969644985d44e08ec1337d2dbab697dd109603",
    "netty-transport-native-unix-common-4.2.2.Final.jar": (
        "aa8821a7ea2ca47f62740bd1f37d67deb97824cc77e76dde6ae2c439a923fc9d"
    ),
    "slf4j-api-2.0.17.jar": "7b751d952061954d5abfed7181c1f645d336091b679891591d63329c622eb832",
}
_GROUP, _NAME, _VERSION = ARTIFACT.split(":")
_POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>lab</groupId><artifactId>jars</artifactId><version>1</version><dependencies><dependency>
<groupId>{_GROUP}</groupId><artifactId>{_NAME}</artifactId><version>{_VERSION}</version>
</dependency></dependencies></project>
"""


def folder() -> Path:
    """Return where the jars are once they are downloaded."""
    return CACHE / f"jars-{hashlib.sha256(repr(sorted(SHA256.items())).encode()).hexdigest()[:12]}"


def up() -> Path:
    """Download the jars by Maven, once, and return their folder; LabError when one is not what it was.

    In a host with the folder mounted: java -cp 'FOLDER/*' MAIN FILE, on 127.0.0.1:27017.
    """
    made = folder()
    with lock("jars"):
        if not (made / "complete").exists():
            made.mkdir(parents=True, exist_ok=True)
            (made / "pom.xml").write_text(_POM, encoding="utf-8")
            if not shutil.which("mvn"):
                daemon.install_missing()
            run(
                *("mvn", "-q", "-B", "-f", str(made / "pom.xml"), "dependency:copy-dependencies"),
                *("-DincludeScope=runtime", f"-DoutputDirectory={made}"),
            )
            _check(made)
            (made / "complete").touch()
    return made


def _check(made: Path) -> None:
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in made.glob("*.jar")}
    if found != SHA256:
        wrong = sorted({*found.items()} ^ {*SHA256.items()})
        raise LabError(f"the jars of {ARTIFACT} are not those that were pinned: {wrong[0][0]}")
