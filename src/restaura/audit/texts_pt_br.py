# SPDX-License-Identifier: GPL-3.0-or-later
"""Every word of an audit's report in Brazilian Portuguese; `texts` has the rules, and English."""

PT_BR = {
    # The report
    "title": "Resumo da Análise de Backup e Recuperação de {host}",
    "overview": "Visão Geral",
    "overview_text": "A análise procurou tudo o que guarda dados neste servidor e todas as formas pelas quais há "
    "backup deles. Nada foi alterado. Visto em {when_at}: locais com dados: {holders}; formas de backup: "
    "{protections}; problemas: {problems}.",
    "results": "Resultados",
    "methods": "Métodos de Backup Encontrados",
    "status": "Status Geral",
    "status_OK": "Há backup de tudo o que guarda dados, também fora deste servidor, e a recuperação é testada.",
    "status_WARNING": "A configuração de backup atual tem lacunas que precisam ser abordadas.",
    "status_CRITICAL": "Hoje haveria perda de dados: um backup com que se conta não funciona, ou não há nenhum.",
    "problems": "Problemas Identificados",
    "no_problems": "Nenhum.",
    "holders": "O Que Guarda Dados",
    "no_holders": "Não foi encontrado nada que guarde dados.",
    "protections": "Como É Feito o Backup",
    "no_protections": "Não foi encontrado nada que faça backup.",
    "recommendations": "Recomendações",
    "no_recommendations": "Nenhuma.",
    "short": "Curto Prazo",
    "medium": "Médio Prazo",
    "long": "Longo Prazo",
    "recovery": "Procedimentos de Recuperação",
    "recovery_documents": "Documentação de recuperação",
    "recovery_scripts": "Scripts de recuperação",
    "restore_tests": "Testes de recuperação",
    "unreadable": "O Que Não Pôde Ser Examinado",
    "conclusion": "Conclusão",
    "conclusion_OK": "Os backups deste servidor estão em ordem. Continue testando a recuperação: só está provado o "
    "que já foi restaurado.",
    "conclusion_WARNING": "A análise identificou lacunas nos backups deste servidor. As recomendações acima as fecham, "
    "a começar pelas primeiras.",
    "conclusion_CRITICAL": "Hoje não seria possível restaurar uma parte dos dados. Siga agora as recomendações de "
    "curto prazo.",
    "next_steps": "Próximos Passos",
    "step_apply": "Seguir as recomendações de curto prazo",
    "step_setup": "Implementar a solução de backup (a partir de um clone do Restaura neste servidor)",
    "step_audit": "Verificar a configuração após a implementação",
    "step_drill": "Testar os procedimentos de recuperação",
    "step_kit": "Documentar os resultados e guardar fora deste servidor o que uma recuperação exige",
    "evidence": "visto em: {places}",
    "and_more": "{list} e mais {count}",
    "contents": "Conteúdo",
    # How numbers and times are written
    "decimal_mark": ",",
    "time_format": "%d/%m/%Y %H:%M UTC",
    # The fleet
    "fleet_title": "Resumo da Análise de Backup e Recuperação de todos os servidores",
    "fleet_overview_text": "Servidores analisados em {when_at}: {audited} de {count}. Nada foi alterado.",
    "fleet_status_OK": "Há backup de tudo o que guarda dados em todos os servidores, e a recuperação é testada.",
    "fleet_status_WARNING": "Os backups de alguns servidores têm lacunas que precisam ser abordadas, ou não puderam "
    "ser analisados.",
    "fleet_status_CRITICAL": "Hoje alguns servidores perderiam dados: um backup com que se conta não funciona, ou não "
    "há nenhum.",
    "fleet_hosts": "Servidores",
    "not_audited": "NÃO ANALISADO",
    "not_audited_hosts": "Servidores Não Analisados",
    "host_not_audited": "{host} não pôde ser analisado\n{reason}\nNada se sabe dos seus backups",
    # Table heads
    "head_holder": "dados",
    "head_size": "tamanho",
    "head_running": "em execução",
    "head_protected": "protegido por",
    "head_newest": "cópia mais recente",
    "head_away": "fora do servidor",
    "head_name": "backup",
    "head_started": "iniciado por",
    "head_schedule": "agendamento",
    "head_copies": "cópias",
    "head_encrypted": "criptografado",
    "head_tried": "recuperação testada",
    "head_loud": "falha percebida",
    "head_host": "servidor",
    "head_status": "status",
    "head_holders": "locais com dados",
    "head_unprotected": "sem backup",
    "head_last_good": "última cópia boa",
    "yes": "sim",
    "no": "não",
    "unknown": "?",
    "nobody": "NINGUÉM",
    "never": "nunca",
    "scheduled": "agendada",
    "size": "{of_bytes}",
    "date": "{of_at}",
    # Methods
    "method_cron_jobs": "Cron Jobs",
    "method_backup_scripts": "Backup Scripts",
    "method_database_backup": "Database Backup",
    "method_supabase_backup": "Supabase Backup",
    "method_volume_backup": "Volume Backup",
    "method_compose_backup_services": "Docker Compose Backup Services",
    "configured": "Configurado: {names}",
    "not_configured": "Não configurado",
    "not_needed": "Nada aqui precisa disso",
    "not_seen": "Não encontrado, e nem tudo pôde ser examinado",
    # How backups are started
    "kind_cron": "cron",
    "kind_timer": "timer",
    "kind_script": "ninguém",
    "kind_compose_service": "contêiner",
    "kind_restaura": "Restaura",
    "kind_other": "ninguém conhecido",
    # Problems
    "nothing_protected": "Nenhum dado deste servidor tem backup\n"
    "Nenhum job, script, serviço ou programa inclui: {holders}\n"
    "Tudo se perde em caso de falha do servidor",
    "unprotected_databases": "Bancos de dados sem configuração de backup\n"
    "Não há scripts ou jobs de cron para backup de: {holders}\n"
    "Dados armazenados neles não estão sendo incluídos nos backups",
    "unprotected_supabase": "Supabase sem configuração de backup\n"
    "Não há scripts ou jobs de cron para backup do Supabase: {holders}\n"
    "Dados armazenados no Supabase não estão sendo incluídos nos backups",
    "unprotected_volumes": "Volumes Docker sem configuração de backup\n"
    "Volumes Docker contendo dados persistentes não estão sendo incluídos nos backups: {holders}\n"
    "Risco de perda de dados em caso de falha do servidor",
    "unprotected_files": "Arquivos e aplicações sem configuração de backup\n"
    "Não estão sendo incluídos nos backups: {holders}",
    "unseen_databases": "Não foi visto backup de alguns bancos de dados\n"
    "Nada do que pôde ser lido inclui: {holders}\n"
    "O que não pôde ser lido talvez os inclua",
    "unseen_supabase": "Não foi visto backup do Supabase\n"
    "Nada do que pôde ser lido inclui: {holders}\n"
    "O que não pôde ser lido talvez o inclua",
    "unseen_volumes": "Não foi visto backup de alguns volumes Docker\n"
    "Nada do que pôde ser lido inclui: {holders}\n"
    "O que não pôde ser lido talvez os inclua",
    "unseen_files": "Não foi visto backup de alguns arquivos e aplicações\n"
    "Nada do que pôde ser lido inclui: {holders}\n"
    "O que não pôde ser lido talvez os inclua",
    "copied_live": "Bancos de dados em execução são copiados apenas como arquivos\n"
    "Seus arquivos mudam durante a leitura: a cópia de {holders} pode não iniciar\n"
    "É preciso um dump, ou parar o serviço durante a cópia",
    "some_databases": "Só há dump de alguns bancos de dados de {holder}\n"
    "Há dump de: {databases}\n"
    "Os outros, e os seus usuários e permissões, não estão em nenhum backup",
    "stale": "{name} não produz nada novo desde {newest_at}\nSeu agendamento é {schedule}\nEstá em {place}",
    "never_produced": "{name} não produziu nada\nNão há nada em {writes}\nEstá em {place}",
    "age_unknown": "Não se vê quando {name} funcionou pela última vez\n"
    "Grava em {writes} e não deixa rastro neste servidor",
    "empty": "{name} grava cópias vazias\n{copies}: {size_bytes}\nNada pode ser restaurado a partir delas",
    "shrinking": "As cópias de {name} estão diminuindo\n{copy}: {size_bytes}, quando o habitual era {usual_bytes}",
    "failed": "O log de {name} termina com um erro\nVeja o fim de {log}",
    "silent": "Ninguém fica sabendo quando {name} falha\nPorque {reasons}",
    "idle_timer_disabled": "{name} nunca é iniciado: o seu timer não está habilitado\nO timer é {place}",
    "idle_dot_in_name": "{name} nunca é iniciado: o cron ignora nomes com ponto\nO arquivo é {place}",
    "idle_not_executable": "{name} nunca é iniciado: o seu script não é executável\nO arquivo é {place}",
    "idle_insecure_mode": "{name} nunca é iniciado: o cron recusa arquivos em que outros podem escrever\n"
    "O arquivo é {place}",
    "idle_no_newline": "{name} nunca é iniciado: a sua linha não tem fim, e o cron a ignora\nA linha é {place}",
    "idle_bad_time": "{name} nunca é iniciado: o cron não entende os seus horários\nA linha é {place}",
    "idle_no_cron_daemon": "{name} nunca é iniciado: não há cron instalado\nA linha é {place}",
    "idle_not_scheduled": "{name} não é iniciado por ninguém\nNenhum crontab, timer ou serviço chama {place}",
    "only_on_same_disk": "As únicas cópias estão no mesmo disco que os dados\n"
    "Uma falha do disco leva os dados e também as cópias de {holders}\n"
    "Elas estão em {writes}",
    "only_on_host": "As únicas cópias estão neste servidor\n"
    "Quando o servidor se perde, perdem-se também as cópias de {holders}\n"
    "Elas estão em {writes}",
    "world_readable": "Qualquer usuário deste servidor pode ler as cópias de {name}\nArquivos em {folder}: {count}",
    "owner_cannot_read": "O dono de cópias de {name} não pode lê-las\nArquivos em {folder}: {count}",
    "secret_in_file": "Há segredos em {file}\n"
    "Linha {lines}: {kinds}\n"
    "Quem lê o arquivo, ou um backup dele, fica com eles",
    "restore_never_tried": "Ausência de testes de recuperação\n"
    "Não há evidências de testes de recuperação de: {protections}\n"
    "Não há garantia de que os backups possam ser restaurados com sucesso",
    "no_recovery_documents": "Ausência de procedimentos de recuperação documentados\n"
    "Não há documentação sobre como restaurar backups",
    "no_recovery_scripts": "Ausência de scripts de recuperação\nNão há scripts que restaurem os backups",
    "not_all_seen": "Nem tudo pôde ser examinado\n"
    "{count} locais: {places}\n"
    "Pode haver backups, ou dados, que esta análise não viu",
    # Why nobody hears
    "no_mailer": "este servidor não pode enviar e-mail",
    "mailto_empty": "MAILTO está vazio no crontab",
    "no_onfailure": "a unit não tem OnFailure",
    "no_notification": "o serviço não conhece nenhum endereço a notificar",
    "output_discarded": "os erros vão para /dev/null",
    "output_to_file": "os erros só vão para um arquivo de log",
    "errors_ignored": "as falhas são ignoradas",
    "pipe_hides_failure": "um pipe esconde o código de saída do dump (sem pipefail)",
    "failure_not_checked": "o script continua depois de uma falha (sem set -e)",
    # Kinds of secrets
    "password": "uma senha",
    "password_in_url": "uma senha em um endereço",
    "access_key": "uma chave de acesso",
    "token": "um token",
    "private_key": "uma chave privada",
    # Why something could not be looked at
    "permission": "sem permissão",
    "binary": "não é texto",
    "too_long": "grande demais para ser examinado por inteiro",
    "failed_to_read": "não pôde ser lido",
    "invalid": "não tem sintaxe válida",
    "remote": "em outra máquina, não percorrido",
    "not_read": "não lido",
    # Recommendations
    "protect_everything": "Implementar backup deste servidor\n"
    "Incluir tudo o que foi encontrado: {holders}\n"
    "Executar por cron e provar restaurando",
    "protect_databases": "Implementar backup dos bancos de dados\n"
    "Fazer dump de {holders}\n"
    "Configurar job de cron para executar o backup regularmente",
    "protect_supabase": "Implementar backup do Supabase\n"
    "Incluir dados, arquivos e configurações do Supabase nos backups: {holders}\n"
    "Configurar job de cron para executar o backup regularmente",
    "protect_volumes": "Implementar backup de volumes Docker\n"
    "Incluir todos os volumes com dados persistentes: {holders}\n"
    "Configurar job de cron para executar o backup regularmente",
    "protect_files": "Implementar backup de arquivos e aplicações\n"
    "Incluir {holders}\n"
    "Configurar job de cron para executar o backup regularmente",
    "look_as_root": "Executar a análise de novo como root\nEntão também se examina o que não pôde ser lido",
    "start_it": "Fazer com que {name} seja iniciado",
    "repair": "Descobrir por que {name} não funciona e consertá-lo",
    "look_there": "Ver quando {name} funcionou pela última vez\nGrava em {writes}",
    "dump_databases": "Fazer backup de bancos de dados por dump, servidores inteiros de uma vez\nPara {holders}",
    "move_secrets": "Tirar os segredos de {file}\n"
    "Colocá-los em um arquivo que só o seu usuário possa ler, como ~/.pgpass, e trocá-los",
    "close_copies": "Impedir que outros leiam {folder}",
    "open_copies": "Permitir que o dono leia {copy}",
    "recovery_procedures": "Criar procedimentos de recuperação\n"
    "Documentar procedimentos de recuperação para cada tipo de backup\n"
    "Criar scripts de recuperação para automatizar o processo\n"
    "Testar os procedimentos de recuperação",
    "store_elsewhere": "Implementar armazenamento externo de backups\n"
    "Configurar transferência automática das cópias para S3 ou outra máquina\n"
    "Informar o armazenamento como backup_runtime_stores em {settings}",
    "hear_failures": "Melhorar monitoramento de {name}\nConfigurar alertas para falhas de backup",
    "try_restores": "Testar uma recuperação\nRestaurar uma cópia de {name} ao lado dos dados atuais e examiná-la",
    "automate_drills": "Automatizar testes de recuperação\n"
    "Configurar testes regulares de recuperação e guardar os resultados",
    "incremental": "Implementar backup incremental\n"
    "Reduzir o tamanho dos backups e o tempo de execução: com deduplicação, só se guarda o que mudou",
    "replicate": "Arquivar continuamente o WAL do Postgres\n"
    "Para que uma recuperação chegue a qualquer momento, e não só ao último dump",
    "disaster_plan": "Desenvolver plano de recuperação de desastres para {host}\n"
    "Guardar fora dele o que uma recuperação exige\n"
    "Restaurar uma vez o servidor inteiro em outra máquina e anotar quanto tempo levou",
}
