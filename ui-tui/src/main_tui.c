/* lifeboat-tui - the operator's terminal; `lifeboat tui` starts it. */
#include <getopt.h>
#include <langinfo.h>
#include <libgen.h>
#include <libintl.h>
#include <limits.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "siteagent/ctl.h"
#include "ui-tui/app.h"
#include "ui-tui/tui.h"

static void usage(FILE *out)
{
	(void)fputs("usage: lifeboat tui [--ascii] [--read-only] [--theme THEME] [--socket PATH]\n",
		    out);
}

/* The directory this program is in, with @below; "" when that cannot be told. */
static void beside(char *out, size_t cap, const char *below)
{
	char exe[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);

	out[0] = '\0';
	if (n <= 0)
		return;
	exe[n] = '\0';
	(void)snprintf(out, cap, "%s/%s", dirname(exe), below);
}

/* Messages: as in a build and in an installation wherever it was moved to, else where CMake was
 * told to install them. In a terminal that cannot show them they stay English. */
static void set_language(void)
{
	char dir[PATH_MAX];

	(void)setlocale(LC_ALL, "");
	beside(dir, sizeof(dir), "../share/locale");
	(void)bindtextdomain("lifeboat", access(dir, R_OK) == 0 ? dir : LB_LOCALE_DIR);
	(void)bind_textdomain_codeset("lifeboat", "UTF-8");
	if (strcmp(nl_langinfo(CODESET), "UTF-8") == 0)
		(void)textdomain("lifeboat");
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"socket", required_argument, NULL, 's'},
		{"theme", required_argument, NULL, 't'},
		{"ascii", no_argument, NULL, 'a'},
		{"read-only", no_argument, NULL, 'r'},
		{"help", no_argument, NULL, 'h'},
		{"keys", no_argument, NULL, 'k'},
		{NULL, 0, NULL, 0},
	};
	const char *env = getenv("LIFEBOAT_SOCKET"), *ascii = getenv("LIFEBOAT_ASCII");
	char program[PATH_MAX];
	struct ui_tui_cfg cfg = {.socket = env != NULL ? env : SA_CTL_DEFAULT_SOCKET,
				 .ascii = ascii != NULL && strcmp(ascii, "1") == 0};
	struct lb_err err = {0};
	int opt, status = 0, rc;

	while ((opt = getopt_long(argc, argv, "s:h", options, NULL)) != -1) {
		if (opt == 's')
			cfg.socket = optarg;
		else if (opt == 't')
			cfg.theme = optarg;
		else if (opt == 'a')
			cfg.ascii = true;
		else if (opt == 'r')
			cfg.read_only = true;
		else if (opt == 'k') {
			ui_app_print_keys(stdout);
			return 0;
		} else {
			usage(opt == 'h' ? stdout : stderr);
			return opt == 'h' ? 0 : 2;
		}
	}
	if (optind < argc) {
		usage(stderr);
		return 2;
	}
	set_language();
	beside(program, sizeof(program), "lifeboat");
	cfg.program = access(program, X_OK) == 0 ? program : "lifeboat";
	rc = ui_tui_run(&cfg, &status, &err);
	if (rc != 0) {
		(void)fprintf(stderr, "lifeboat: %s: %s\n", lb_err_name(rc), err.msg);
		return lb_err_exit_status(rc);
	}
	return status;
}
