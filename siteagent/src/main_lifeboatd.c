/*
 * lifeboatd - the site agent. usage: lifeboatd [--config FILE] [--check] [--version]
 *
 * Runs in the foreground, logs to standard error (one event per line), ends on SIGTERM or SIGINT.
 * Privileges: root, because it opens block devices, enters network namespaces and starts nbdkit. It
 * parses foreign bytes (peers' frames) in this process too; splitting off `net` and `store` is
 * prepared for by the message boundaries of rep_link and rep_target. Core dumps are off: they would
 * hold keys (I20).
 */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent_int.h"
#include "base/buf.h"
#include "base/env.h"
#include "base/log.h"
#include "base/loop.h"

#define DEFAULT_CONFIG "/etc/lifeboat/lifeboat.yaml"

static void on_stop(void *arg)
{
	lb_loop_stop(arg);
}

static void harden(void)
{
	const struct rlimit none = {0, 0};

	(void)prctl(PR_SET_DUMPABLE, 0);
	(void)setrlimit(RLIMIT_CORE, &none);
	(void)signal(SIGPIPE, SIG_IGN);
	(void)umask(077);
}

static int load(struct sa_config **cfg, const char *path)
{
	char *problems = NULL;
	struct lb_err err = {0};
	int rc = sa_config_load(cfg, path, &problems, &err);

	if (rc != 0 && problems != NULL)
		(void)fputs(problems, stderr);
	if (rc != 0)
		(void)fprintf(stderr, "lifeboatd: %s: %s\n", lb_err_name(rc), err.msg);
	free(problems);
	return rc;
}

static int serve(struct sa_config *cfg)
{
	struct lb_loop *loop = NULL;
	struct sa_agent *agent = NULL;
	struct lb_err err = {0};
	int rc = lb_loop_create(&loop, &err);

	if (rc == 0)
		rc = lb_loop_on_signal(loop, SIGTERM, on_stop, loop, &err);
	if (rc == 0)
		rc = lb_loop_on_signal(loop, SIGINT, on_stop, loop, &err);
	if (rc == 0)
		rc = sa_agent_create(&agent, lb_env_real(), loop, cfg, &err);
	if (rc == 0) {
		cfg = NULL; /* the agent's now */
		rc = lb_loop_run(loop, &err);
		lb_log(LB_LOG_INFO, "agent", "stopping", NULL);
	}
	if (rc != 0)
		(void)fprintf(stderr, "lifeboatd: %s: %s\n", lb_err_name(rc), err.msg);
	sa_agent_destroy(agent);
	lb_loop_destroy(loop);
	sa_config_destroy(cfg);
	return rc;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"config", required_argument, NULL, 'c'},
						{"check", no_argument, NULL, 'k'},
						{"version", no_argument, NULL, 'v'},
						{"help", no_argument, NULL, 'h'},
						{NULL, 0, NULL, 0}};
	const char *path = DEFAULT_CONFIG;
	struct sa_config *cfg = NULL;
	bool check_only = false;
	int rc, opt;

	while ((opt = getopt_long(argc, argv, "c:hv", options, NULL)) != -1) {
		if (opt == 'c') {
			path = optarg;
		} else if (opt == 'k') {
			check_only = true;
		} else if (opt == 'v') {
			(void)puts("lifeboatd " LB_VERSION);
			return 0;
		} else {
			(void)fprintf(opt == 'h' ? stdout : stderr,
				      "usage: lifeboatd [--config FILE] [--check] [--version]\n");
			return opt == 'h' ? 0 : 2;
		}
	}
	if (optind < argc) {
		(void)fprintf(stderr, "lifeboatd: \"%.64s\" is no option; --config FILE?\n",
			      argv[optind]);
		return 2;
	}
	harden();
	lb_buf_keep_freed();
	rc = load(&cfg, path);
	if (rc != 0)
		return lb_err_exit_status(rc);
	if (check_only) {
		(void)printf("%s: ok\n", path);
		sa_config_destroy(cfg);
		return 0;
	}
	lb_log_set_level(cfg->log_level);
	return lb_err_exit_status(serve(cfg));
}
