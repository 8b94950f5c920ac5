/* What each verb of sa_ctl_verbs() runs. */
#include <string.h>

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
	{"site", "renew", cli_site_renew},
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
	{"vm", "cpu", cli_vm_cpu},
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
