#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "siteagent/ctl.h"

/* The one table of verbs: what each takes and does. What it runs is in cli_verbs.c. */

#define N_(text) text /* for xgettext */

static const struct sa_verb verbs[] = {
	{"status", "", "", "--watch --plain",
	 N_("what is protected, how old the newest point is, who is active"),
	 "lifeboat status --watch", 0, 0, false},
	{"watch", "", "", "--plain --after N --once",
	 N_("one line per event, for logs and screen readers"), "lifeboat watch --after 120", 0, 0,
	 false},
	{"tui", "", "", "--ascii --read-only --theme THEME",
	 N_("the terminal UI: see the truth at a glance, fail over safely"),
	 "lifeboat tui --read-only", 0, 0, false},
	{"doctor", "", "", "", N_("check everything a failover needs; exit status for cron"),
	 "lifeboat doctor", 0, 0, false},
	{"site", "list", "", "", N_("this site and its peers"), "lifeboat site list", 0, 0, false},
	{"site", "init", "", "",
	 N_("create a deployment: certificate authority and this site's identity"),
	 "lifeboat site init", 0, 0, true},
	{"site", "token", "NAME", "--ttl DURATION --renew",
	 N_("print a single-use token that lets site NAME join within 15 minutes"),
	 "lifeboat site token tokyo > token", 1, 1, true},
	{"site", "join", "[FILE]", "", N_("join with the token in FILE (default: standard input)"),
	 "lifeboat site join token", 0, 1, true},
	{"site", "renew", "[FILE]", "",
	 N_("another certificate for this site, with a token made by --renew; none where the CA "
	    "is"),
	 "lifeboat site renew token", 0, 1, true},
	{"site", "remove", "NAME", "--confirm NAME",
	 N_("end the enrolment of a peer: it may not connect any more; points it made stay"),
	 "lifeboat site remove tokyo --confirm tokyo", 1, 1, true},
	{"machine", "list", "", "", N_("protected machines and the state of their capture"),
	 "lifeboat machine list", 0, 0, false},
	{"group", "list", "", "", N_("protection groups: role, epoch, RPO, link"),
	 "lifeboat group list", 0, 0, false},
	{"group", "cut", "GROUP", "", N_("take a recovery point now"), "lifeboat group cut erp", 1,
	 1, true},
	{"point", "list", "", "--group GROUP --max N", N_("recovery points, oldest first"),
	 "lifeboat point list --group erp", 0, 0, false},
	{"point", "show", "POINT", "--group GROUP",
	 N_("one recovery point; POINT is `latest` or a prefix of its id"),
	 "lifeboat point show latest", 1, 1, false},
	{"point", "verify", "POINT", "--deep --group GROUP",
	 N_("check every byte a point needs (--deep: decrypt too)"),
	 "lifeboat point verify latest --deep", 1, 1, true},
	{"point", "export", "POINT FILE",
	 "--group GROUP --machine NAME --volume NAME --format FORMAT",
	 N_("write one volume of a point as an image: raw (default) or qcow2"),
	 "lifeboat point export latest db.qcow2 --volume vda --format qcow2", 2, 2, true},
	{"verify", "", "", "--deep", N_("scrub the whole store; without keys unless --deep"),
	 "lifeboat verify", 0, 0, true},
	{"catalog", "rebuild", "", "", N_("make the catalog again from the store"),
	 "lifeboat catalog rebuild", 0, 0, true},
	{"catalog", "dump", "", "", N_("the catalog as canonical text"), "lifeboat catalog dump", 0,
	 0, false},
	{"runbook", "list", "", "", N_("runbooks of the agent's directory"),
	 "lifeboat runbook list", 0, 0, false},
	{"runbook", "lint", "FILE", "", N_("check a runbook; all problems with line and caret"),
	 "lifeboat runbook lint tokyo.yaml", 1, 1, false},
	{"runbook", "plan", "FILE", "--mode MODE", N_("the exact schedule; executes nothing"),
	 "lifeboat runbook plan tokyo.yaml", 1, 1, false},
	{"runbook", "schema", "", "", N_("JSON Schema of the language, for editors"),
	 "lifeboat runbook schema > runbook.schema.json", 0, 0, false},
	{"run", "start", "FILE", "--mode MODE --confirm SITE --unattended",
	 N_("run a runbook (default: failover) and follow it"),
	 "lifeboat run start tokyo.yaml --confirm tokyo", 1, 1, true},
	{"run", "list", "", "", N_("runs of this site"), "lifeboat run list", 0, 0, false},
	{"run", "show", "RUN", "", N_("one run, step by step"), "lifeboat run show 1a2b", 1, 1,
	 false},
	{"run", "attach", "RUN", "", N_("follow a run until it ends or waits for you"),
	 "lifeboat run attach 1a2b", 1, 1, false},
	{"run", "console", "RUN MACHINE", "", N_("the end of a booted machine's serial console"),
	 "lifeboat run console 1a2b db", 2, 2, false},
	{"run", "continue", "RUN", "--confirm SITE",
	 N_("go on with a halted run; what failed stays a warning"), "lifeboat run continue 1a2b",
	 1, 1, true},
	{"run", "retry", "RUN STEP", "", N_("try a failed step again"),
	 "lifeboat run retry 1a2b db", 2, 2, true},
	{"run", "skip", "RUN STEP", "--reason TEXT --confirm SITE", N_("leave a failed step out"),
	 "lifeboat run skip 1a2b dns --reason 'done by hand' --confirm osaka", 2, 2, true},
	{"run", "halt", "RUN", "", N_("start no further step"), "lifeboat run halt 1a2b", 1, 1,
	 true},
	{"run", "cancel", "RUN", "--confirm SITE", N_("end a run; its finally steps still run"),
	 "lifeboat run cancel 1a2b --confirm osaka", 1, 1, true},
	{"drill", "", "FILE", "--unattended",
	 N_("run a runbook as a drill: isolated network, roles and replication untouched"),
	 "lifeboat drill tokyo.yaml", 1, 1, true},
	{"vm", "list", "", "", N_("machines that run here under lifeboat-vm"), "lifeboat vm list",
	 0, 0, false},
	{"vm", "cpu", "", "",
	 N_("what guests may see of this host's processor: a line for `cpu` of machines elsewhere"),
	 "lifeboat vm cpu > osaka.cpu", 0, 0, false},
	{"vm", "show", "MACHINE", "", N_("one of them, with its counters"), "lifeboat vm show pay",
	 1, 1, false},
	{"vm", "run", "MACHINE", "", N_("start a machine of driver vmcore from its own disks"),
	 "lifeboat vm run pay", 1, 1, true},
	{"vm", "console", "MACHINE", "--once",
	 N_("its serial console; ^] leaves it (--once: what is kept of its output)"),
	 "lifeboat vm console pay", 1, 1, true},
	{"vm", "screenshot", "MACHINE", "--png FILE",
	 N_("its screen as text, or as a picture into FILE"),
	 "lifeboat vm screenshot pay --png pay.png", 1, 1, true},
	{"vm", "pause", "MACHINE", "", N_("let it stand still"), "lifeboat vm pause pay", 1, 1,
	 true},
	{"vm", "resume", "MACHINE", "", N_("let it go on"), "lifeboat vm resume pay", 1, 1, true},
	{"vm", "power-button", "MACHINE", "", N_("ask its system to switch itself off"),
	 "lifeboat vm power-button pay", 1, 1, true},
	{"vm", "stop", "MACHINE", "--confirm SITE", N_("switch it off, now"),
	 "lifeboat vm stop pay --confirm tokyo", 1, 1, true},
	{"vm", "reset", "MACHINE", "--confirm SITE", N_("press its reset button"),
	 "lifeboat vm reset pay --confirm tokyo", 1, 1, true},
	{"config", "check", "FILE", "",
	 N_("check a configuration; all problems with line and caret"),
	 "lifeboat config check /etc/lifeboat/lifeboat.yaml", 1, 1, false},
	{"config", "keys", "", "", N_("every configuration key with type, range, default"),
	 "lifeboat config keys", 0, 0, false},
	{"completion", "", "SHELL", "", N_("completion for bash, zsh or fish on standard output"),
	 "lifeboat completion bash > /etc/bash_completion.d/lifeboat", 1, 1, false},
	{NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, false},
};

const struct sa_verb *sa_ctl_verbs(void)
{
	return verbs;
}

/* ---- what may stand next ---- */

#define WORD_BYTES 40u

struct line {
	const char *noun, *verb;     /* NULL: not there yet */
	const struct sa_verb *found; /* by both */
	size_t args;                 /* after noun and verb, without options */
	const char *option;          /* the last word is an option that wants a value */
};

static const struct sa_verb *verb_of(const char *noun, const char *verb)
{
	for (const struct sa_verb *v = verbs; v->noun != NULL; v++)
		if (strcmp(v->noun, noun) == 0 &&
		    (v->verb[0] == '\0' || (verb != NULL && strcmp(v->verb, verb) == 0)))
			return v;
	return NULL;
}

/* The value that option @word of "--deep --group GROUP" takes, as its kind; false: none. */
static bool option_kind(const char *options, const char *word, char kind[WORD_BYTES])
{
	size_t len = strlen(word);

	for (const char *p = strstr(options, "--"); p != NULL; p = strstr(p + 2, "--")) {
		if (strncmp(p, word, len) != 0 || (p[len] != ' ' && p[len] != '\0'))
			continue;
		p += len + strspn(p + len, " ");
		(void)snprintf(kind, WORD_BYTES, "%.*s", (int)strcspn(p, " "), p);
		return isupper((unsigned char)kind[0]) != 0;
	}
	return false;
}

static void read_line(struct line *l, const char *const *word, size_t count)
{
	char kind[WORD_BYTES];

	*l = (struct line){.noun = NULL};
	for (size_t i = 0; i < count; i++) {
		const char *w = word[i], *known = l->found != NULL ? l->found->options : "";

		l->option = NULL;
		if (w[0] == '-') {
			if (strcmp(w, "--socket") == 0 || option_kind(known, w, kind)) {
				l->option = w;
				i++; /* its value */
				l->option = i < count ? NULL : w;
			}
		} else if (l->noun == NULL) {
			l->noun = w;
			l->found = verb_of(w, NULL);
		} else if (l->found == NULL) {
			l->verb = w;
			l->found = verb_of(l->noun, w);
			if (l->found == NULL)
				return; /* no such verb: nothing can follow */
		} else {
			l->args++;
		}
	}
}

/* The n-th word of "POINT FILE [MACHINE]", without brackets; false when there are fewer. */
static bool nth_kind(const char *args, size_t n, char kind[WORD_BYTES])
{
	for (; n > 0 && *args != '\0'; n--) {
		args += strcspn(args, " ");
		args += strspn(args, " ");
	}
	args += strspn(args, "[");
	(void)snprintf(kind, WORD_BYTES, "%.*s", (int)strcspn(args, " ]"), args);
	return kind[0] != '\0';
}

static void offer_options(const struct sa_verb *v, sa_offer_fn offer, void *arg)
{
	char one[WORD_BYTES];

	for (const char *p = strstr(v->options, "--"); p != NULL; p = strstr(p + 2, "--")) {
		(void)snprintf(one, sizeof(one), "%.*s", (int)strcspn(p, " "), p);
		offer(arg, one, false);
	}
	offer(arg, "--json", false);
	offer(arg, "--help", false);
}

static void offer_words(const char *noun, sa_offer_fn offer, void *arg)
{
	const char *last = "";

	for (const struct sa_verb *v = verbs; v->noun != NULL; v++) {
		if (noun != NULL && strcmp(v->noun, noun) == 0)
			offer(arg, v->verb, false);
		if (noun == NULL && strcmp(v->noun, last) != 0)
			offer(arg, v->noun, false);
		last = v->noun;
	}
}

void sa_ctl_complete(const char *const *word, size_t count, sa_offer_fn offer, void *arg)
{
	char kind[WORD_BYTES];
	struct line l;

	read_line(&l, word, count);
	if (l.option != NULL) {
		if (l.found != NULL && option_kind(l.found->options, l.option, kind))
			offer(arg, kind, true);
	} else if (l.noun == NULL) {
		offer_words(NULL, offer, arg);
	} else if (l.found == NULL && l.verb == NULL) {
		offer_words(l.noun, offer, arg);
	} else if (l.found != NULL) {
		if (nth_kind(l.found->args, l.args, kind))
			offer(arg, kind, true);
		offer_options(l.found, offer, arg);
	}
}
