/* The one table of verbs: dispatch, help, completion and the man page come from it. */
#include <stdlib.h>
#include <string.h>

#include "cli_int.h"

const struct cli_verb cli_verbs[] = {
	{"status", "", "", "--watch --plain",
	 "what is protected, how old the newest point is, who is active", "lifeboat status --watch",
	 0, 0, cli_status},
	{"watch", "", "", "--after N --once", "one line per event, for logs and screen readers",
	 "lifeboat watch --after 120", 0, 0, cli_watch},
	{"doctor", "", "", "", "check everything a failover needs; exit status for cron",
	 "lifeboat doctor", 0, 0, cli_doctor},
	{"site", "list", "", "", "this site and its peers", "lifeboat site list", 0, 0,
	 cli_site_list},
	{"site", "init", "", "",
	 "create a deployment: certificate authority and this site's identity",
	 "lifeboat site init", 0, 0, cli_site_init},
	{"site", "token", "NAME", "--ttl DURATION",
	 "print a single-use token that lets site NAME join within 15 minutes",
	 "lifeboat site token tokyo > token", 1, 1, cli_site_token},
	{"site", "join", "[FILE]", "", "join with the token in FILE (default: standard input)",
	 "lifeboat site join token", 0, 1, cli_site_join},
	{"machine", "list", "", "", "protected machines and the state of their capture",
	 "lifeboat machine list", 0, 0, cli_machine_list},
	{"group", "list", "", "", "protection groups: role, epoch, RPO, link",
	 "lifeboat group list", 0, 0, cli_group_list},
	{"group", "cut", "GROUP", "", "take a recovery point now", "lifeboat group cut erp", 1, 1,
	 cli_group_cut},
	{"point", "list", "", "--group GROUP --max N", "recovery points, oldest first",
	 "lifeboat point list --group erp", 0, 0, cli_point_list},
	{"point", "show", "POINT", "--group GROUP",
	 "one recovery point; POINT is `latest` or a prefix of its id",
	 "lifeboat point show latest", 1, 1, cli_point_show},
	{"point", "verify", "POINT", "--deep --group GROUP",
	 "check every byte a point needs (--deep: decrypt too)",
	 "lifeboat point verify latest --deep", 1, 1, cli_point_verify},
	{"point", "export", "POINT FILE",
	 "--group GROUP --machine NAME --volume NAME --format FORMAT",
	 "write one volume of a point as an image: raw (default) or qcow2",
	 "lifeboat point export latest db.qcow2 --volume vda --format qcow2", 2, 2,
	 cli_point_export},
	{"verify", "", "", "--deep", "scrub the whole store; without keys unless --deep",
	 "lifeboat verify", 0, 0, cli_verify},
	{"catalog", "rebuild", "", "", "make the catalog again from the store",
	 "lifeboat catalog rebuild", 0, 0, cli_catalog_rebuild},
	{"catalog", "dump", "", "", "the catalog as canonical text", "lifeboat catalog dump", 0, 0,
	 cli_catalog_dump},
	{"runbook", "lint", "FILE", "", "check a runbook; all problems with line and caret",
	 "lifeboat runbook lint tokyo.yaml", 1, 1, cli_runbook_lint},
	{"runbook", "plan", "FILE", "--mode MODE", "the exact schedule; executes nothing",
	 "lifeboat runbook plan tokyo.yaml", 1, 1, cli_runbook_plan},
	{"runbook", "schema", "", "", "JSON Schema of the language, for editors",
	 "lifeboat runbook schema > runbook.schema.json", 0, 0, cli_runbook_schema},
	{"run", "start", "FILE", "--mode MODE --confirm SITE --unattended",
	 "run a runbook (default: failover) and follow it",
	 "lifeboat run start tokyo.yaml --confirm tokyo", 1, 1, cli_run_start},
	{"run", "list", "", "", "runs of this site", "lifeboat run list", 0, 0, cli_run_list},
	{"run", "show", "RUN", "", "one run, step by step", "lifeboat run show 1a2b", 1, 1,
	 cli_run_show},
	{"run", "attach", "RUN", "", "follow a run until it ends or waits for you",
	 "lifeboat run attach 1a2b", 1, 1, cli_run_attach},
	{"run", "console", "RUN MACHINE", "", "the end of a booted machine's serial console",
	 "lifeboat run console 1a2b db", 2, 2, cli_run_console},
	{"run", "continue", "RUN [STEP]", "",
	 "go on with a halted run; what failed stays a warning", "lifeboat run continue 1a2b", 1, 2,
	 cli_run_continue},
	{"run", "retry", "RUN STEP", "", "try a failed step again", "lifeboat run retry 1a2b db", 2,
	 2, cli_run_retry},
	{"run", "skip", "RUN STEP", "--reason TEXT --confirm SITE", "leave a failed step out",
	 "lifeboat run skip 1a2b dns --reason 'done by hand' --confirm osaka", 2, 2, cli_run_skip},
	{"run", "halt", "RUN", "", "start no further step", "lifeboat run halt 1a2b", 1, 1,
	 cli_run_halt},
	{"run", "cancel", "RUN", "--confirm SITE", "end a run; its finally steps still run",
	 "lifeboat run cancel 1a2b --confirm osaka", 1, 1, cli_run_cancel},
	{"drill", "", "FILE", "--unattended",
	 "run a runbook as a drill: isolated network, roles and replication untouched",
	 "lifeboat drill tokyo.yaml", 1, 1, cli_drill},
	{"config", "check", "FILE", "", "check a configuration; all problems with line and caret",
	 "lifeboat config check /etc/lifeboat/lifeboat.yaml", 1, 1, cli_config_check},
	{"config", "keys", "", "", "every configuration key with type, range, default",
	 "lifeboat config keys", 0, 0, cli_config_keys},
	{"completion", "", "SHELL", "", "completion for bash, zsh or fish on standard output",
	 "lifeboat completion bash > /etc/bash_completion.d/lifeboat", 1, 1, cli_completion},
	{NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, NULL},
};

static void verbs_of(const char *noun, char *out, size_t cap)
{
	size_t n = 0;

	out[0] = '\0';
	for (const struct cli_verb *v = cli_verbs; v->noun != NULL; v++)
		if (strcmp(v->noun, noun) == 0 && n < cap)
			n += (size_t)snprintf(out + n, cap - n, "%s%s", n > 0 ? " " : "", v->verb);
}

static void each_noun(void (*fn)(const char *noun, const char *verbs))
{
	char verbs[512];
	const char *last = "";

	for (const struct cli_verb *v = cli_verbs; v->noun != NULL; v++) {
		if (strcmp(v->noun, last) == 0)
			continue;
		last = v->noun;
		verbs_of(last, verbs, sizeof(verbs));
		fn(last, verbs);
	}
}

static void bash_noun(const char *noun, const char *verbs)
{
	(void)printf("\t\t%s) words=\"%s\" ;;\n", noun, verbs);
}

static void noun_only(const char *noun, const char *verbs)
{
	(void)verbs;
	(void)printf("%s ", noun);
}

static void bash_completion(void)
{
	(void)printf("# bash completion for lifeboat\n_lifeboat() {\n\tlocal words=\"\" "
		     "cur=${COMP_WORDS[COMP_CWORD]}\n"
		     "\tif [ \"$COMP_CWORD\" = 1 ]; then\n\t\twords=\"");
	each_noun(noun_only);
	(void)printf("\"\n\telif [ \"$COMP_CWORD\" = 2 ]; then\n\t\tcase ${COMP_WORDS[1]} in\n");
	each_noun(bash_noun);
	(void)printf("\t\tesac\n\telse\n\t\tcase ${COMP_WORDS[1]} in\n"
		     "\t\tpoint) words=\"latest $(lifeboat point list --json 2>/dev/null | jq -r "
		     "'.points[].id[0:12]' 2>/dev/null)\" ;;\n"
		     "\t\trun) words=$(lifeboat run list --json 2>/dev/null | jq -r "
		     "'.runs[].id[0:8]' 2>/dev/null) ;;\n"
		     "\t\tgroup) words=$(lifeboat group list --json 2>/dev/null | jq -r "
		     "'.groups[].name' 2>/dev/null) ;;\n"
		     "\t\tesac\n\tfi\n\tCOMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
		     "\t[ ${#COMPREPLY[@]} -gt 0 ] || COMPREPLY=($(compgen -f -- \"$cur\"))\n}\n"
		     "complete -F _lifeboat lifeboat\n");
}

static void fish_noun(const char *noun, const char *verbs)
{
	(void)printf("complete -c lifeboat -n __fish_use_subcommand -a %s\n", noun);
	if (verbs[0] != '\0')
		(void)printf("complete -c lifeboat -n '__fish_seen_subcommand_from %s' -a '%s'\n",
			     noun, verbs);
}

int cli_completion(struct cli *c)
{
	if (strcmp(c->arg[0], "bash") == 0) {
		bash_completion();
	} else if (strcmp(c->arg[0], "zsh") == 0) {
		(void)printf("autoload -U +X bashcompinit && bashcompinit\n");
		bash_completion();
	} else if (strcmp(c->arg[0], "fish") == 0) {
		each_noun(fish_noun);
	} else {
		return lb_err_set(&c->err, LB_EINPUT, 0, "shell %.40s: bash, zsh or fish",
				  c->arg[0]);
	}
	return 0;
}
