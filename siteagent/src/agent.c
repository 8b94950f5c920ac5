#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent_int.h"
#include "base/env.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/loop.h"
#include "export_int.h"
#include "replicator/link.h"
#include "vms_int.h"

#define POOL_THREADS 4u
/* A step's time runs while it waits for a worker, and a machine's boot and probes keep one for
 * minutes: so there is one for each that a runbook starts at a time, up to what a pool can have. */
#define SLOW_THREADS 64u

size_t sa_read_text(const char *path, char *out, size_t out_bytes)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got;

	out[0] = '\0';
	if (fd < 0)
		return 0;
	got = read(fd, out, out_bytes - 1); /* banned-ok: one small file of /proc or a pid file */
	(void)close(fd);
	if (got < 0)
		got = 0;
	out[got] = '\0';
	return (size_t)got;
}

/* The kernel's boot id: what CLOCK_BOOTTIME counts in. */
static int read_boot_id(struct lb_id *out, struct lb_err *err)
{
	char text[64], hex[LB_ID_TEXT];
	size_t got = sa_read_text("/proc/sys/kernel/random/boot_id", text, sizeof(text)), n = 0;

	for (size_t i = 0; i < got && n < LB_ID_TEXT - 1; i++)
		if (text[i] != '-' && text[i] != '\n')
			hex[n++] = text[i];
	hex[n] = '\0';
	return lb_id_parse(out, hex, err);
}

/* The event log of state.db sees every line from INFO up; it is for people, so a failure is
 * dropped. */
static void on_log(void *arg, enum lb_log_level lvl, const char *line)
{
	static const char *const names[] = {"debug", "info", "warn", "error"};
	struct sa_agent *a = arg;
	struct sa_event e = {.wall_ns = a->env->wall_ns(a->env)};
	const char *comp = strstr(line, " comp="), *ev = strstr(line, " ev=");

	if (lvl < LB_LOG_INFO || a->catalog == NULL)
		return;
	(void)snprintf(e.level, sizeof(e.level), "%s", names[lvl]);
	if (comp != NULL)
		(void)snprintf(e.comp, sizeof(e.comp), "%.*s", (int)strcspn(comp + 6, " "),
			       comp + 6);
	if (ev != NULL)
		(void)snprintf(e.ev, sizeof(e.ev), "%.*s", (int)strcspn(ev + 4, " "), ev + 4);
	(void)snprintf(e.line, sizeof(e.line), "%s", line);
	(void)sa_catalog_event_add(a->catalog, &e, NULL);
}

static int lock_state(struct sa_agent *a, struct lb_err *err)
{
	int rc = lb_fs_dir_create(&a->state, a->cfg->state_dir, err);

	if (rc == 0)
		rc = lb_fs_open(a->state, &a->lock, "lifeboatd.lock", LB_FS_CREATE, err);
	if (rc != 0)
		return rc;
	rc = lb_file_lock(a->lock, err);
	if (rc == LB_EBUSY)
		return lb_err_set(err, LB_EBUSY, 0,
				  "another lifeboatd runs on %s (its lock is held); stop it first",
				  a->cfg->state_dir);
	return rc;
}

static int set_plugin_dir(struct sa_agent *a, const char *dir, struct lb_err *err)
{
	int n = snprintf(a->plugin_dir, sizeof(a->plugin_dir), "%s", dir);

	if (n < 0 || (size_t)n >= sizeof(a->plugin_dir))
		return lb_err_set(err, LB_EINPUT, 0, "path of our nbdkit plugins is too long: %s",
				  dir);
	return 0;
}

/* A build has them beside this program, an installation in a directory of their own. */
static int find_plugins(struct sa_agent *a, const char *beside, struct lb_err *err)
{
	char path[PATH_MAX + 64], installed[PATH_MAX];

	(void)snprintf(path, sizeof(path), "%s/lifeboat-view-plugin.so", beside);
	if (access(path, F_OK) == 0)
		return set_plugin_dir(a, beside, err);
	(void)snprintf(path, sizeof(path), "%s/" LB_PRIVATE_DIR, beside);
	return set_plugin_dir(a, realpath(path, installed) != NULL ? installed : path, err);
}

static int plugin_dir(struct sa_agent *a, struct lb_err *err)
{
	char exe[PATH_MAX];
	ssize_t n;

	if (a->cfg->plugin_dir[0] != '\0')
		return set_plugin_dir(a, a->cfg->plugin_dir, err);
	n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
	if (n <= 0)
		return lb_err_errno(err, errno, "readlink /proc/self/exe");
	exe[n] = '\0';
	return find_plugins(a, dirname(exe), err);
}

static int open_state(struct sa_agent *a, struct lb_err *err)
{
	int rc = lock_state(a, err);

	if (rc == 0)
		rc = read_boot_id(&a->boot_id, err);
	if (rc == 0)
		rc = plugin_dir(a, err);
	if (rc == 0)
		rc = sa_ident_open(&a->ident, a->env, a->cfg->state_dir, a->cfg->site, err);
	if (rc == 0)
		rc = sa_idmap_open(&a->ids, a->env, a->state, err);
	if (rc == 0)
		rc = sa_roles_open(&a->roles, a->env, a->state, err);
	if (rc == 0)
		rc = sa_catalog_open(&a->catalog, a->cfg->state_dir, err);
	return rc;
}

/* What needs an identity; called again when there is one. */
static int start_roles(struct sa_agent *a, struct lb_err *err)
{
	char problem[120];
	int rc = 0;

	if (!sa_ident_ready(a->ident)) {
		lb_log(LB_LOG_WARN, "agent", "not_enrolled", "site=%s", a->cfg->site, NULL);
		return 0;
	}
	if (sa_cert_problem(a, problem, sizeof(problem)))
		lb_log(LB_LOG_ERROR, "enrol", "certificate_ends", "err=%s", problem, NULL);
	if (a->keyring == NULL)
		rc = sa_keyring_open(&a->keyring, a->env, a->cfg->state_dir, sa_ident_kek(a->ident),
				     err);
	if (rc == 0)
		rc = sa_backup_start(a, err);
	if (rc == 0)
		rc = sa_protect_start(a, err);
	return rc;
}

int sa_agent_enrolled(struct sa_agent *a, struct lb_err *err)
{
	return start_roles(a, err);
}

int sa_agent_renewed(struct sa_agent *a, struct lb_err *err)
{
	struct rep_tls *const tls[] = {a->tls_server, a->tls_client};
	int rc = 0;

	for (size_t i = 0; i < sizeof(tls) / sizeof(tls[0]) && rc == 0; i++)
		if (tls[i] != NULL)
			rc = rep_tls_reload(tls[i], sa_ident_ca_path(a->ident),
					    sa_ident_cert_path(a->ident),
					    sa_ident_key_path(a->ident), err);
	if (rc == 0)
		lb_log(LB_LOG_INFO, "enrol", "renewed", "days=%lld",
		       (long long)(sa_ident_cert_left_s(a->ident) / 86400), NULL);
	return rc;
}

static void on_joined(void *arg, const struct sa_peer *p)
{
	struct sa_agent *a = arg;
	struct lb_err err = {0};

	lb_log(LB_LOG_INFO, "enrol", "peer_enrolled", "site=%s", p->name, NULL);
	if (start_roles(a, &err) != 0)
		lb_log(LB_LOG_ERROR, "agent", "start_failed", "err=%s", err.msg, NULL);
}

static void find_vm_program(struct sa_agent *a)
{
	const char *set = a->cfg->vm_program;
	int n = set[0] != '\0' ? snprintf(a->vm_program, sizeof(a->vm_program), "%s", set)
			       : snprintf(a->vm_program, sizeof(a->vm_program), "%s/lifeboat-vm",
					  a->plugin_dir);

	if (n < 0 || (size_t)n >= sizeof(a->vm_program) || access(a->vm_program, X_OK) != 0)
		a->vm_program[0] = '\0';
}

static int open_hypervisor(struct sa_agent *a, struct lb_err *err)
{
	const struct sa_config *c = a->cfg;
	struct sa_hv_cfg cfg = {.driver = c->hv_driver,
				.uri = c->hv_uri,
				.vm_program = a->vm_program[0] != '\0' ? a->vm_program : NULL,
				.firmware = c->hv_firmware,
				.vga_firmware = c->hv_vga_firmware,
				.kernel = c->hv_kernel[0] != '\0' ? c->hv_kernel : NULL,
				.initrd = c->hv_initrd[0] != '\0' ? c->hv_initrd : NULL,
				.kvm = c->hv_kvm};

	return c->has_hypervisor ? sa_hv_create(&a->hv, &cfg, err) : 0;
}

static int start_services(struct sa_agent *a, struct lb_err *err)
{
	int rc = lb_pool_create(&a->pool, a->loop, POOL_THREADS, err);

	if (rc == 0)
		rc = lb_pool_create(&a->slow, a->loop, SLOW_THREADS, err);
	if (rc == 0)
		rc = sa_enrol_create(&a->enrol, a->env, a->loop, a->ident, a->cfg, on_joined, a,
				     err);
	find_vm_program(a);
	if (rc == 0)
		rc = sa_vms_create(&a->vms, a, err);
	if (rc == 0)
		rc = open_hypervisor(a, err);
	if (rc == 0)
		rc = sa_jobs_create(&a->jobs, a, err);
	if (rc == 0)
		rc = sa_views_create(&a->views, a, err);
	if (rc == 0)
		rc = sa_history_create(&a->history, a, err);
	if (rc == 0)
		sa_export_clean(a);
	if (rc == 0)
		rc = start_roles(a, err);
	if (rc == 0)
		rc = sa_runs_create(&a->runs, a, err);
	if (rc == 0)
		rc = sa_vmwatch_create(&a->vmwatch, a, err);
	if (rc == 0)
		rc = sa_api_create(&a->api, a->loop, a->cfg->control_socket, sa_agent_on_api,
				   sa_agent_api_looks, a, err);
	return rc;
}

int sa_agent_create(struct sa_agent **out, struct lb_env *env, struct lb_loop *loop,
		    struct sa_config *cfg, struct lb_err *err)
{
	struct sa_agent *a = calloc(1, sizeof(*a));
	int rc;

	if (a == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "site agent");
	a->env = env;
	a->loop = loop;
	a->cfg = cfg;
	a->started_ns = env->now_ns(env);
	rc = open_state(a, err);
	if (rc == 0) {
		lb_log_set_tap(on_log, a);
		rc = start_services(a, err);
	}
	if (rc != 0) {
		a->cfg = NULL; /* still the caller's */
		sa_agent_destroy(a);
		return rc;
	}
	lb_log(LB_LOG_INFO, "agent", "started", "site=%s", cfg->site, "control=%s",
	       cfg->control_socket, NULL);
	*out = a;
	return 0;
}

void sa_agent_destroy(struct sa_agent *a)
{
	if (a == NULL)
		return;
	sa_api_destroy(a->api);
	sa_runs_stop(a->runs); /* so that the pools end soon */
	sa_jobs_destroy(a->jobs);
	if (a->cfg != NULL || a->group != NULL)
		sa_protect_stop(a);
	lb_pool_destroy(a->pool);
	lb_pool_destroy(a->slow);
	sa_runs_destroy(a->runs); /* its verbs were the pool's */
	sa_join_drop(a);
	sa_vmwatch_destroy(a->vmwatch);
	sa_vms_destroy(a->vms);
	sa_views_destroy(a->views);
	sa_history_destroy(a->history);
	sa_hv_destroy(a->hv);
	sa_backup_stop(a);
	sa_enrol_destroy(a->enrol);
	lb_log_set_tap(NULL, NULL);
	sa_catalog_close(a->catalog);
	sa_roles_close(a->roles);
	sa_idmap_close(a->ids);
	sa_keyring_close(a->keyring);
	sa_ident_close(a->ident);
	lb_file_close(a->lock);
	lb_fs_destroy(a->state);
	sa_config_destroy(a->cfg);
	free(a);
}
