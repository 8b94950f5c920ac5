/*
 * lifeboat - the command line: lifeboat NOUN [VERB] [ARG...] [--option...]. A client of the control
 * API only.
 */
#include <errno.h>
#include <getopt.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>

#include "base/conf.h"
#include "cli_int.h"
#include "siteagent/ctl.h"

enum {
	OPT_DEEP = 256,
	OPT_MODE,
	OPT_CONFIRM,
	OPT_REASON,
	OPT_GROUP,
	OPT_MACHINE,
	OPT_VOLUME,
	OPT_TTL,
	OPT_AFTER,
	OPT_MAX,
	OPT_UNATTENDED,
	OPT_ONCE,
	OPT_FORMAT,
	OPT_PNG,
	OPT_PLAIN,
	OPT_ASCII,
	OPT_READ_ONLY,
	OPT_THEME,
	OPT_RENEW,
	OPT_VERSION
};

static const struct option options[] = {
	{"socket", required_argument, NULL, 's'},
	{"json", no_argument, NULL, 'j'},
	{"help", no_argument, NULL, 'h'},
	{"watch", no_argument, NULL, 'w'},
	{"version", no_argument, NULL, OPT_VERSION},
	{"deep", no_argument, NULL, OPT_DEEP},
	{"mode", required_argument, NULL, OPT_MODE},
	{"confirm", required_argument, NULL, OPT_CONFIRM},
	{"reason", required_argument, NULL, OPT_REASON},
	{"group", required_argument, NULL, OPT_GROUP},
	{"machine", required_argument, NULL, OPT_MACHINE},
	{"volume", required_argument, NULL, OPT_VOLUME},
	{"ttl", required_argument, NULL, OPT_TTL},
	{"after", required_argument, NULL, OPT_AFTER},
	{"max", required_argument, NULL, OPT_MAX},
	{"unattended", no_argument, NULL, OPT_UNATTENDED},
	{"plain", no_argument, NULL, OPT_PLAIN},
	{"ascii", no_argument, NULL, OPT_ASCII},
	{"read-only", no_argument, NULL, OPT_READ_ONLY},
	{"theme", required_argument, NULL, OPT_THEME},
	{"once", no_argument, NULL, OPT_ONCE},
	{"format", required_argument, NULL, OPT_FORMAT},
	{"png", required_argument, NULL, OPT_PNG},
	{"renew", no_argument, NULL, OPT_RENEW},
	{NULL, 0, NULL, 0},
};

static void usage_line(FILE *out, const struct sa_verb *v)
{
	char left[80];

	(void)snprintf(left, sizeof(left), "%s%s%s%s%s", v->noun, v->verb[0] != '\0' ? " " : "",
		       v->verb, v->args[0] != '\0' ? " " : "", v->args);
	(void)fprintf(out, "  %-28s %s\n", left, v->help);
}

static void usage(FILE *out, const char *noun)
{
	(void)fprintf(out,
		      "usage: lifeboat NOUN [VERB] [ARG...] [--json] [--socket PATH] [--help]\n\n");
	for (const struct sa_verb *v = sa_ctl_verbs(); v->noun != NULL; v++)
		if (noun == NULL || strcmp(v->noun, noun) == 0)
			usage_line(out, v);
	(void)fprintf(out, "\nThe agent's socket: --socket, else $LIFEBOAT_SOCKET, else %s\n",
		      SA_CTL_DEFAULT_SOCKET);
}

static void usage_of(FILE *out, const struct sa_verb *v)
{
	(void)fprintf(out, "usage: lifeboat %s%s%s%s%s", v->noun, v->verb[0] != '\0' ? " " : "",
		      v->verb, v->args[0] != '\0' ? " " : "", v->args);
	for (const char *p = v->options; *p != '\0';) { /* "--a X --b" -> " [--a X] [--b]" */
		const char *next = strstr(p + 2, " --");
		size_t n = next != NULL ? (size_t)(next - p) : strlen(p);

		(void)fprintf(out, " [%.*s]", (int)n, p);
		p += n + (next != NULL ? 1 : 0);
	}
	(void)fputc('\n', out);
}

static void help(const struct sa_verb *v)
{
	usage_of(stdout, v);
	(void)printf("\n%s\n\nexample:\n  %s\n", v->help, v->example);
}

static void take_option(struct cli *c, int opt)
{
	switch (opt) {
	case 's':
		c->socket = optarg;
		break;
	case 'j':
		c->json = true;
		break;
	case 'w':
		c->watch = true;
		break;
	case OPT_DEEP:
		c->deep = true;
		break;
	case OPT_PLAIN:
		c->plain = true;
		break;
	case OPT_ASCII:
		c->ascii = true;
		break;
	case OPT_RENEW:
		c->renew = true;
		break;
	case OPT_READ_ONLY:
		c->read_only = true;
		break;
	case OPT_THEME:
		c->theme = optarg;
		break;
	case OPT_ONCE:
		c->once = true;
		break;
	case OPT_FORMAT:
		c->format = optarg;
		break;
	case OPT_PNG:
		c->png = optarg;
		break;
	case OPT_UNATTENDED:
		c->yes_unattended = true;
		break;
	case OPT_MODE:
		c->mode = optarg;
		break;
	case OPT_CONFIRM:
		c->confirm = optarg;
		break;
	case OPT_REASON:
		c->reason = optarg;
		break;
	case OPT_GROUP:
		c->group = optarg;
		break;
	case OPT_MACHINE:
		c->machine = optarg;
		break;
	case OPT_VOLUME:
		c->volume = optarg;
		break;
	case OPT_TTL:
		c->ttl = optarg;
		break;
	case OPT_AFTER:
		c->after = optarg;
		break;
	case OPT_MAX:
		c->max = optarg;
		break;
	default:
		break;
	}
}

/* getopt's '?' or ':' told for people. */
static int bad_option(int opt, char **argv)
{
	const char *words[sizeof(options) / sizeof(options[0])] = {NULL}, *near, *text;

	text = optopt == 0 || optopt > 255 ? argv[optind - 1] : NULL;
	if (opt == ':') {
		(void)fprintf(stderr, "lifeboat: %s needs a value\n", argv[optind - 1]);
		return 2;
	}
	if (text == NULL) {
		(void)fprintf(stderr, "lifeboat: unknown option -%c\n", optopt);
		return 2;
	}
	for (size_t i = 0; options[i].name != NULL; i++)
		words[i] = options[i].name;
	near = strncmp(text, "--", 2) == 0 ? lb_nearest_word(text + 2, words) : NULL;
	(void)fprintf(stderr, "lifeboat: unknown option %s%s%s%s\n", text,
		      near != NULL ? ", did you mean --" : "", near != NULL ? near : "",
		      near != NULL ? "?" : "");
	return 2;
}

/* Options that every verb takes have no place in its own list. */
static bool takes(const struct sa_verb *v, const char *name)
{
	static const char *const all[] = {"socket", "json", "help", "version"};
	size_t len = strlen(name);

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (strcmp(all[i], name) == 0)
			return true;
	for (const char *p = strstr(v->options, "--"); p != NULL; p = strstr(p + 2, "--"))
		if (strncmp(p + 2, name, len) == 0 && (p[2 + len] == ' ' || p[2 + len] == '\0'))
			return true;
	return false;
}

static bool noun_known(const char *noun)
{
	for (const struct sa_verb *v = sa_ctl_verbs(); v->noun != NULL; v++)
		if (strcmp(v->noun, noun) == 0)
			return true;
	return false;
}

static const struct sa_verb *find(const char *noun, const char *verb, size_t *used)
{
	for (const struct sa_verb *v = sa_ctl_verbs(); v->noun != NULL; v++) {
		if (strcmp(v->noun, noun) != 0)
			continue;
		*used = v->verb[0] == '\0' ? 1 : 2;
		if (v->verb[0] == '\0' || (verb != NULL && strcmp(v->verb, verb) == 0))
			return v;
	}
	return NULL;
}

static int unknown(const char *noun, const char *verb)
{
	const char *words[64];
	size_t n = 0;
	bool known = noun_known(noun);
	const char *near;

	for (const struct sa_verb *v = sa_ctl_verbs(); v->noun != NULL && n < 63; v++)
		if (!known || strcmp(v->noun, noun) == 0)
			words[n++] = known ? v->verb : v->noun;
	words[n] = NULL;
	if (known && verb == NULL) {
		usage(stderr, noun);
		return 2;
	}
	near = lb_nearest_word(known ? verb : noun, words);
	(void)fprintf(stderr, "lifeboat: unknown %s \"%s\"%s%s%s\n", known ? "verb" : "noun",
		      known ? verb : noun, near != NULL ? ", did you mean \"" : "",
		      near != NULL ? near : "", near != NULL ? "\"?" : "");
	(void)fprintf(stderr, "`lifeboat %s%s--help` lists what there is\n", known ? noun : "",
		      known ? " " : "");
	return 2;
}

/* What was said on standard output must have got there: a token, a dump, a schema in a file of a
 * full disk is none. */
static int check_said(struct cli *c)
{
	if (fflush(stdout) != 0)
		return lb_err_errno(&c->err, errno, "write standard output");
	return ferror(stdout) == 0 ? 0 : lb_err_set(&c->err, LB_EIO, 0, "write standard output");
}

static int run(struct cli *c, const struct sa_verb *v)
{
	int rc = cli_verb_fn(v)(c);

	if (rc == 0)
		rc = check_said(c);
	if (rc != 0) {
		cli_print_json_error(c, rc);
		(void)fflush(stdout);
		(void)fprintf(stderr, "lifeboat: %s: %s\n", lb_err_name(rc), c->err.msg);
		if (c->hint[0] != '\0')
			(void)fprintf(stderr, "%s\n", c->hint);
	}
	sa_ctl_close(c->ctl);
	return lb_err_exit_status(rc);
}

int main(int argc, char **argv)
{
	const char *env_socket = getenv("LIFEBOAT_SOCKET");
	struct cli c = {.socket = env_socket != NULL ? env_socket : SA_CTL_DEFAULT_SOCKET};
	const struct sa_verb *v;
	bool given[sizeof(options) / sizeof(options[0])] = {false};
	bool want_help = false;
	size_t used = 0, left;
	int opt;

	(void)setlocale(LC_ALL, "");
	/* the words of a line that is being typed are not our own options */
	if (argc >= 3 && strcmp(argv[1], "completion") == 0 && strcmp(argv[2], "words") == 0)
		return cli_complete(c.socket, (const char *const *)argv + 3, (size_t)argc - 3);
	opterr = 0;
	while ((opt = getopt_long(argc, argv, ":s:jhw", options, NULL)) != -1) {
		if (opt == '?' || opt == ':')
			return bad_option(opt, argv);
		for (size_t i = 0; options[i].name != NULL; i++)
			given[i] = given[i] || options[i].val == opt;
		if (opt == OPT_VERSION) {
			(void)puts("lifeboat " LB_VERSION);
			return 0;
		}
		want_help = want_help || opt == 'h';
		take_option(&c, opt);
	}
	if (optind < argc && strcmp(argv[optind], "help") == 0) {
		want_help = true;
		optind++;
	}
	if (optind >= argc) {
		usage(want_help ? stdout : stderr, NULL);
		return want_help ? 0 : 2;
	}
	v = find(argv[optind], optind + 1 < argc ? argv[optind + 1] : NULL, &used);
	if (v == NULL && want_help && noun_known(argv[optind])) {
		usage(stdout, argv[optind]);
		return 0;
	}
	if (v == NULL)
		return unknown(argv[optind], optind + 1 < argc ? argv[optind + 1] : NULL);
	if (want_help) {
		help(v);
		return 0;
	}
	for (size_t i = 0; options[i].name != NULL; i++)
		if (given[i] && !takes(v, options[i].name)) {
			(void)fprintf(stderr, "lifeboat: --%s is no option of this verb\n",
				      options[i].name);
			usage_of(stderr, v);
			return 2;
		}
	left = (size_t)(argc - optind) - used;
	if (left < v->min_args || left > v->max_args) {
		usage_of(stderr, v);
		return 2;
	}
	for (size_t i = 0; i < left && i < CLI_ARGS_MAX; i++)
		c.arg[c.args++] = argv[(size_t)optind + used + i];
	return run(&c, v);
}
