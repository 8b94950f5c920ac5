/*
 * Completion: the shells' scripts ask this program what may stand next, so that all three complete
 * alike, names of the running agent too.
 */
#include <ctype.h>
#include <jansson.h>
#include <string.h>

#include "cli_int.h"
#include "siteagent/ctl.h"

#define TIMEOUT_NS UINT64_C(2000000000) /* a key was pressed: better no names than a wait */

struct asked {
	struct sa_ctl *ctl;
	const char *prefix;
};

/* Only what a shell takes as one plain word: names come from the agent. */
static void say(const struct asked *a, const char *word)
{
	for (const char *p = word; *p != '\0'; p++)
		if (isalnum((unsigned char)*p) == 0 && strchr("._/:@%+,=-", *p) == NULL)
			return;
	if (word[0] != '\0' && strncmp(word, a->prefix, strlen(a->prefix)) == 0)
		(void)puts(word);
}

/* Names of a kind: where they are asked for, in which list, by which key, how much of it. */
static const struct {
	const char *kind, *path, *list, *key;
	int len;
} names[] = {
	{"GROUP", "/v1/groups", "groups", "name", 100},
	{"MACHINE", "/v1/machines", "machines", "name", 100},
	{"SITE", "/v1/sites", "sites", "name", 100},
	{"POINT", "/v1/points?max=50", "points", "id", 12},
	{"RUN", "/v1/runs", "runs", "id", 8},
	{"FILE", "/v1/runbooks", "runbooks", "path", 200},
};

static const struct {
	const char *kind, *words[5];
} fixed[] = {
	{"MODE", {"drill", "failover", "planned"}},
	{"FORMAT", {"raw", "qcow2"}},
	{"SHELL", {"bash", "zsh", "fish"}},
	{"THEME", {"default", "high-contrast", "blue-orange", "mono"}},
	{"POINT", {"latest"}},
};

static void say_names(const struct asked *a, size_t i)
{
	char word[256];
	json_t *o = NULL, *item;
	size_t k;

	if (a->ctl == NULL ||
	    sa_ctl_call(a->ctl, "GET", names[i].path, NULL, &o, NULL, 0, NULL) != 0)
		return;
	json_array_foreach(json_object_get(o, names[i].list), k, item)
	{
		const char *s = json_string_value(json_object_get(item, names[i].key));

		(void)snprintf(word, sizeof(word), "%.*s", names[i].len, s != NULL ? s : "");
		say(a, word);
	}
	json_decref(o);
}

static void offer(void *arg, const char *text, bool kind)
{
	const struct asked *a = arg;

	if (!kind) {
		if (text[0] != '-' || a->prefix[0] == '-')
			say(a, text);
		return;
	}
	for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++)
		for (size_t k = 0; strcmp(fixed[i].kind, text) == 0 && k < 5; k++)
			if (fixed[i].words[k] != NULL)
				say(a, fixed[i].words[k]);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(names[i].kind, text) == 0)
			say_names(a, i);
}

int cli_complete(const char *socket, const char *const *word, size_t count)
{
	struct asked a = {.prefix = count > 0 ? word[count - 1] : ""};

	for (size_t i = 0; i + 1 < count; i++)
		if (strcmp(word[i], "--socket") == 0 || strcmp(word[i], "-s") == 0)
			socket = word[i + 1];
	if (sa_ctl_open(&a.ctl, socket, TIMEOUT_NS, NULL) != 0)
		a.ctl = NULL;
	sa_ctl_complete(word, count > 0 ? count - 1 : 0, offer, &a);
	sa_ctl_close(a.ctl);
	return 0;
}

/* ---- the scripts ---- */

static const char bash[] =
	"# bash completion for lifeboat\n"
	"_lifeboat() {\n"
	"\tlocal IFS=$'\\n'\n"
	"\tCOMPREPLY=($(lifeboat completion words \"${COMP_WORDS[@]:1:COMP_CWORD}\" 2>/dev/null))\n"
	"\t[ ${#COMPREPLY[@]} -gt 0 ] || COMPREPLY=($(compgen -f -- "
	"\"${COMP_WORDS[COMP_CWORD]}\"))\n"
	"}\n"
	"complete -F _lifeboat lifeboat\n";

static const char zsh[] =
	"#compdef lifeboat\n"
	"_lifeboat() {\n"
	"\tlocal -a found\n"
	"\tfound=(${(f)\"$(lifeboat completion words \"${(@)words[2,CURRENT]}\" 2>/dev/null)\"})\n"
	"\tif (( $#found )); then\n\t\tcompadd -a found\n\telse\n\t\t_files\n\tfi\n"
	"}\n"
	"compdef _lifeboat lifeboat\n";

static const char fish[] =
	"# fish completion for lifeboat\n"
	"function __lifeboat_words\n"
	"\tset -l found (lifeboat completion words (commandline -opc)[2..-1] (commandline -ct) "
	"2>/dev/null)\n"
	"\tif test (count $found) -gt 0\n\t\tprintf '%s\\n' $found\n"
	"\telse\n\t\t__fish_complete_path (commandline -ct)\n\tend\n"
	"end\n"
	"complete -c lifeboat -f -a '(__lifeboat_words)'\n";

int cli_completion(struct cli *c)
{
	const char *script;

	if (strcmp(c->arg[0], "bash") == 0)
		script = bash;
	else if (strcmp(c->arg[0], "zsh") == 0)
		script = zsh;
	else if (strcmp(c->arg[0], "fish") == 0)
		script = fish;
	else
		return lb_err_set(&c->err, LB_EINPUT, 0, "shell %.40s: bash, zsh or fish",
				  c->arg[0]);
	if (c->json)
		return cli_print_json(
			c, json_pack("{s:s, s:s}", "shell", c->arg[0], "script", script));
	(void)fputs(script, stdout);
	return 0;
}
