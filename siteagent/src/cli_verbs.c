/* What each verb of sa_ctl_verbs() runs; completion scripts. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "cli_int.h"
#include "siteagent/ctl.h"

static const struct {
	const char *noun, *verb;
	int (*fn)(struct cli *c);
} runs[] = {
	{"status", "", cli_status},
	{"watch", "", cli_watch},
	{"tui", "", cli_tui},
	{"doctor", "", cli_doctor},
	{"site", "list", cli_site_list},
	{"site", "init", cli_site_init},
	{"site", "token", cli_site_token},
	{"site", "join", cli_site_join},
	{"site", "remove", cli_site_remove},
	{"machine", "list", cli_machine_list},
	{"group", "list", cli_group_list},
	{"group", "cut", cli_group_cut},
	{"point", "list", cli_point_list},
	{"point", "show", cli_point_show},
	{"point", "verify", cli_point_verify},
	{"point", "export", cli_point_export},
	{"verify", "", cli_verify},
	{"catalog", "rebuild", cli_catalog_rebuild},
	{"catalog", "dump", cli_catalog_dump},
	{"runbook", "list", cli_runbook_list},
	{"runbook", "lint", cli_runbook_lint},
	{"runbook", "plan", cli_runbook_plan},
	{"runbook", "schema", cli_runbook_schema},
	{"run", "start", cli_run_start},
	{"run", "list", cli_run_list},
	{"run", "show", cli_run_show},
	{"run", "attach", cli_run_attach},
	{"run", "console", cli_run_console},
	{"run", "continue", cli_run_continue},
	{"run", "retry", cli_run_retry},
	{"run", "skip", cli_run_skip},
	{"run", "halt", cli_run_halt},
	{"run", "cancel", cli_run_cancel},
	{"drill", "", cli_drill},
	{"vm", "list", cli_vm_list},
	{"vm", "show", cli_vm_show},
	{"vm", "run", cli_vm_run},
	{"vm", "console", cli_vm_console},
	{"vm", "screenshot", cli_vm_screenshot},
	{"vm", "pause", cli_vm_pause},
	{"vm", "resume", cli_vm_resume},
	{"vm", "power-button", cli_vm_power_button},
	{"vm", "stop", cli_vm_stop},
	{"vm", "reset", cli_vm_reset},
	{"config", "check", cli_config_check},
	{"config", "keys", cli_config_keys},
	{"completion", "", cli_completion},
};

int (*cli_verb_fn(const struct sa_verb *v))(struct cli *c)
{
	for (size_t i = 0; i < sizeof(runs) / sizeof(runs[0]); i++)
		if (strcmp(runs[i].noun, v->noun) == 0 && strcmp(runs[i].verb, v->verb) == 0)
			return runs[i].fn;
	return NULL;
}

static void verbs_of(const char *noun, char *out, size_t cap)
{
	size_t n = 0;

	out[0] = '\0';
	for (const struct sa_verb *v = sa_ctl_verbs(); v->noun != NULL; v++)
		if (strcmp(v->noun, noun) == 0 && n < cap)
			n += (size_t)snprintf(out + n, cap - n, "%s%s", n > 0 ? " " : "", v->verb);
}

static void each_noun(void (*fn)(const char *noun, const char *verbs))
{
	char verbs[512];
	const char *last = "";

	for (const struct sa_verb *v = sa_ctl_verbs(); v->noun != NULL; v++) {
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
