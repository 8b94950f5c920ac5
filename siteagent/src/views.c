/*
 * One nbdkit process per served volume, all of one boot in one private directory:
 *   <volume>.map   the merged extent map (replicator/view.h)
 *   <volume>.keys  its data keys, 0600
 *   <volume>.sock  where QEMU connects
 *   <volume>.pid   nbdkit's pid; written when it listens
 *   <volume>.log   what it says
 * The keys are in that process and in that file only.
 *
 * nbdkit is started in a session of its own, so a machine keeps its disk when the agent ends; who
 * owns the directory ends it (sa_view_stop_all). It is told to outlive us (plugin_view.c): nbdkit
 * in the foreground asks for a signal when its parent dies, a machine that was failed over must
 * outlive the agent, and the signal follows the THREAD that forked, while we are on a worker of a
 * pool. What a killed agent leaves of a drill is found by the boots' records and ended at the next
 * start (runs.c).
 *
 * It is our child until the agent ends, so somebody must wait for one that died: a timer does, by
 * pid. (libuv waits for the pids of its own children only, so neither takes the other's.)
 */
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent_int.h"
#include "base/buf.h"
#include "base/env.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/thread.h"
#include "proc_int.h"
#include "replicator/view.h"

#define START_TIMEOUT_NS UINT64_C(20000000000)
#define LOCK_NS          UINT64_C(120000000000)
#define STEP_MS          20
#define TERM_MS          2000
#define KILL_MS          10000
#define REAP_NS          UINT64_C(5000000000)
#define CHILDREN_MAX     1024u

struct sa_views {
	struct sa_agent *agent;
	struct lb_timer *reap;
	pthread_mutex_t lock; /* guards what follows */
	pid_t child[CHILDREN_MAX];
	size_t children;
};

/* ---- our children ---- */

static bool has_ended(pid_t pid)
{
	pid_t got;

	do
		got = waitpid(pid, NULL, WNOHANG);
	while (got < 0 && errno == EINTR);
	return got != 0; /* reaped now, or not ours (any more) */
}

static void reap_ended(void *arg)
{
	struct sa_views *v = arg;

	(void)pthread_mutex_lock(&v->lock);
	for (size_t i = 0; i < v->children;)
		if (has_ended(v->child[i]))
			v->child[i] = v->child[--v->children];
		else
			i++;
	(void)pthread_mutex_unlock(&v->lock);
}

/* Beyond the maximum a zombie may stay until the agent ends; nothing else is lost. */
static void watch_child(struct sa_views *v, pid_t pid)
{
	(void)pthread_mutex_lock(&v->lock);
	if (v->children < CHILDREN_MAX)
		v->child[v->children++] = pid;
	(void)pthread_mutex_unlock(&v->lock);
}

int sa_views_create(struct sa_views **out, struct sa_agent *a, struct lb_err *err)
{
	struct sa_views *v = calloc(1, sizeof(*v));
	int rc;

	if (v == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "views");
	v->agent = a;
	(void)pthread_mutex_init(&v->lock, NULL);
	rc = lb_timer_create(&v->reap, a->loop, reap_ended, v, err);
	if (rc != 0) {
		sa_views_destroy(v);
		return rc;
	}
	lb_timer_start(v->reap, REAP_NS, REAP_NS);
	*out = v;
	return 0;
}

void sa_views_destroy(struct sa_views *v)
{
	if (v == NULL)
		return;
	lb_timer_destroy(v->reap);
	reap_ended(v);
	(void)pthread_mutex_destroy(&v->lock);
	free(v);
}

static bool answers(const char *socket_path)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool ok;

	if (fd < 0)
		return false;
	(void)snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", socket_path);
	ok = connect(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0;
	(void)close(fd);
	return ok;
}

/* Size and key of @volume in the point's manifest. */
static int look_up(struct sa_agent *a, const struct lb_hash *point, const struct lb_id *volume,
		   struct rep_manifest_volume *out, struct lb_err *err)
{
	struct rep_manifest *m = malloc(sizeof(*m));
	struct lb_buf *bytes = NULL;
	int rc = m == NULL ? lb_err_set(err, LB_ENOMEM, 0, "manifest") : 0;

	if (rc == 0)
		rc = rep_store_read_manifest(a->store, point, &bytes, err);
	if (rc == 0)
		rc = rep_manifest_decode(m, bytes->p, bytes->len, err);
	if (rc == 0) {
		rc = LB_ENOTFOUND;
		for (uint32_t i = 0; i < m->volumes && rc != 0; i++)
			if (lb_id_equal(&m->volume[i].volume, volume)) {
				*out = m->volume[i];
				rc = 0;
			}
		if (rc != 0)
			rc = lb_err_set(err, LB_ENOTFOUND, 0, "recovery point has no such volume");
	}
	lb_buf_unref(bytes);
	free(m);
	return rc;
}

static int write_keys(struct sa_agent *a, struct lb_fs *fs, const char *name,
		      const struct lb_id *key_id, struct lb_err *err)
{
	char text[LB_ID_TEXT + 2 * LB_KEY_BYTES + 2], id[LB_ID_TEXT];
	struct lb_key key;
	int rc = sa_keyring_by_id(a->keyring, key_id, &key);
	size_t n;

	if (rc != 0)
		return lb_err_set(err, LB_ENOTFOUND, 0, "this site does not hold data key %s",
				  lb_id_text(key_id, id));
	n = (size_t)snprintf(text, sizeof(text), "%s ", lb_id_text(key_id, id));
	for (size_t i = 0; i < LB_KEY_BYTES; i++)
		n += (size_t)snprintf(text + n, sizeof(text) - n, "%02x", key.b[i]);
	text[n++] = '\n';
	rc = lb_fs_replace(fs, name, text, n, err);
	explicit_bzero(text, sizeof(text));
	lb_key_wipe(&key);
	return rc;
}

struct files {
	char map[SA_PATH_BYTES], sock[SA_PATH_BYTES], pid[SA_PATH_BYTES], keys[SA_PATH_BYTES],
		log[SA_PATH_BYTES];
};

static int name_files(struct files *f, const char *dir, const char *volume, struct lb_err *err)
{
	/* the longest limit is the socket's */
	if (strlen(dir) + strlen(volume) + 8 > sizeof(((struct sockaddr_un *)0)->sun_path))
		return lb_err_set(err, LB_EINPUT, 0, "path of view socket %s/%s.sock is too long",
				  dir, volume);
	(void)snprintf(f->map, sizeof(f->map), "%s/%s.map", dir, volume);
	(void)snprintf(f->sock, sizeof(f->sock), "%s/%s.sock", dir, volume);
	(void)snprintf(f->pid, sizeof(f->pid), "%s/%s.pid", dir, volume);
	(void)snprintf(f->keys, sizeof(f->keys), "%s/%s.keys", dir, volume);
	(void)snprintf(f->log, sizeof(f->log), "%s/%s.log", dir, volume);
	return 0;
}

static int spawn_nbdkit(struct sa_agent *a, const struct files *f, pid_t *pid, struct lb_err *err)
{
	char plugin[SA_PATH_BYTES + 64], map[SA_PATH_BYTES + 8], store[SA_PATH_BYTES + 16],
		keys[SA_PATH_BYTES + 16];
	const char *argv[] = {"nbdkit", "--foreground", "--readonly", "--unix",
			      f->sock,  "--pidfile",    f->pid,       "--threads",
			      "4",      plugin,         map,          store,
			      keys,     "outlive=true", NULL};

	(void)snprintf(plugin, sizeof(plugin), "%s/lifeboat-view-plugin.so", a->plugin_dir);
	(void)snprintf(map, sizeof(map), "map=%s", f->map);
	(void)snprintf(store, sizeof(store), "store=%s/store", a->cfg->state_dir);
	(void)snprintf(keys, sizeof(keys), "keyfile=%s", f->keys);
	return sa_proc_start_session(pid, argv, f->log, err);
}

static pid_t read_pid(const char *path)
{
	char text[32];

	(void)sa_read_text(path, text, sizeof(text));
	return (pid_t)strtol(text, NULL, 10);
}

/* Is @pid still the nbdkit that serves at @socket_path? A pid may have been reused, by the server
 * of another boot too, whose directory may begin like ours: a whole argument must be the path. A
 * zombie has no command line. */
static bool is_ours(pid_t pid, const char *socket_path)
{
	char proc[64], cmd[4096];
	size_t n;

	if (pid <= 1)
		return false;
	(void)snprintf(proc, sizeof(proc), "/proc/%d/cmdline", (int)pid);
	n = sa_read_text(proc, cmd, sizeof(cmd));
	if (strstr(cmd, "nbdkit") == NULL)
		return false;
	for (const char *arg = cmd; arg < cmd + n; arg += strlen(arg) + 1)
		if (strcmp(arg, socket_path) == 0)
			return true;
	return false;
}

/* nbdkit writes its pid when it listens, so a file that holds it is the sign of readiness; the
 * socket's name alone appears earlier. */
static bool is_ready(const struct files *f, pid_t pid)
{
	return read_pid(f->pid) == pid && answers(f->sock);
}

/* nbdkit ends its complaints with a pointer to its manual: the line that says "error" is wanted. */
static const char *complaint(const char *log_path, char *out, size_t len)
{
	FILE *f = fopen(log_path, "re");
	char line[512];

	(void)snprintf(out, len, "no message");
	while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
		line[strcspn(line, "\n")] = '\0';
		if (strstr(line, "error") != NULL)
			(void)snprintf(out, len, "%.*s", (int)len - 1, line);
	}
	if (f != NULL)
		(void)fclose(f);
	return out;
}

static int wait_ready(struct sa_views *v, const struct files *f, pid_t pid, struct lb_err *err)
{
	struct lb_env *env = v->agent->env;
	uint64_t deadline = env->now_ns(env) + START_TIMEOUT_NS;
	char why[160];

	while (!is_ready(f, pid)) {
		if (has_ended(pid))
			return lb_err_set(err, LB_EIO, 0, "nbdkit for %s ended: %s", f->sock,
					  complaint(f->log, why, sizeof(why)));
		if (env->now_ns(env) > deadline) {
			sa_proc_end(pid, 0);
			return lb_err_set(err, LB_ETIMEDOUT, 0, "nbdkit for %s did not answer",
					  f->sock);
		}
		(void)poll(NULL, 0, STEP_MS);
	}
	watch_child(v, pid);
	return 0;
}

static int start_server(struct sa_views *v, const struct files *f, struct lb_err *err)
{
	pid_t pid = 0;
	int rc;

	(void)unlink(f->sock);
	(void)unlink(f->pid);
	rc = spawn_nbdkit(v->agent, f, &pid, err);
	return rc != 0 ? rc : wait_ready(v, f, pid, err);
}

/* The one who serves @dir now. */
static int serve(struct sa_views *v, const char *dir, const struct lb_hash *point,
		 const char *volume_name, const struct rep_manifest_volume *mv,
		 const struct files *f, struct lb_err *err)
{
	struct sa_agent *a = v->agent;
	struct lb_fs *fs = NULL;
	char name[SA_NAME_BYTES + 8];
	int rc;

	if (is_ours(read_pid(f->pid), f->sock) && answers(f->sock))
		return 0;
	rc = lb_fs_dir_create(&fs, dir, err);
	(void)snprintf(name, sizeof(name), "%s.keys", volume_name);
	if (rc == 0)
		rc = write_keys(a, fs, name, &mv->key, err);
	(void)snprintf(name, sizeof(name), "%s.map", volume_name);
	if (rc == 0)
		rc = rep_view_prepare(a->store, point, &mv->volume, fs, name, err);
	if (rc == 0)
		rc = start_server(v, f, err);
	lb_fs_destroy(fs);
	return rc;
}

int sa_view_serve(struct sa_views *v, const char *dir, const struct lb_hash *point,
		  const struct lb_id *volume, const char *volume_name, struct sa_view *out,
		  struct lb_err *err)
{
	struct rep_manifest_volume mv;
	struct files f;
	int lock = -1, rc = name_files(&f, dir, volume_name, err);

	if (rc == 0)
		rc = look_up(v->agent, point, volume, &mv, err);
	if (rc == 0)
		rc = sa_lock_dir(&lock, dir, LOCK_NS, err);
	if (rc != 0)
		return rc;
	out->size_bytes = mv.volume_bytes;
	memcpy(out->socket, f.sock, sizeof(out->socket));
	rc = serve(v, dir, point, volume_name, &mv, &f, err);
	(void)close(lock);
	return rc;
}

/* Wait at most @ms for the process of @pidfd to end. Its empty command line is no sign of that: the
 * kernel takes the memory down first, and only later can the process be waited for. */
static bool ends_within(int pidfd, int ms)
{
	struct pollfd p = {.fd = pidfd, .events = POLLIN};
	uint64_t until = lb_monotonic_ns() + (uint64_t)ms * 1000000u;
	int n;

	while ((n = poll(&p, 1, STEP_MS)) <= 0 && lb_monotonic_ns() < until)
		continue;
	return n > 0;
}

static void end_server(pid_t pid, const char *socket_path)
{
	int pidfd = pid > 1 ? pidfd_open(pid, 0) : -1;

	if (pidfd < 0)
		return;
	/* Looked at after the descriptor is open: from here on the pid cannot become another's. */
	if (is_ours(pid, socket_path)) {
		(void)pidfd_send_signal(pidfd, SIGTERM, NULL, 0);
		if (!ends_within(pidfd, TERM_MS)) {
			(void)pidfd_send_signal(pidfd, SIGKILL, NULL, 0);
			(void)ends_within(pidfd, KILL_MS);
		}
	}
	(void)close(pidfd);
}

/* Of the server whose pid file is "@stem.pid". */
static void stop_one(const char *stem)
{
	char path[SA_PATH_BYTES + 310], socket_path[SA_PATH_BYTES + 310];

	(void)snprintf(path, sizeof(path), "%s.pid", stem);
	(void)snprintf(socket_path, sizeof(socket_path), "%s.sock", stem);
	end_server(read_pid(path), socket_path);
	(void)unlink(path);
}

void sa_view_stop_all(struct sa_views *v, const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	char path[SA_PATH_BYTES + 300];

	if (d == NULL)
		return;
	while ((e = readdir(d)) != NULL) {
		size_t n = strlen(e->d_name);

		(void)snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
		if (n > 4 && strcmp(e->d_name + n - 4, ".pid") == 0) {
			path[strlen(path) - 4] = '\0';
			stop_one(path);
		} else if (n > 5 && strcmp(e->d_name + n - 5, ".keys") == 0) {
			(void)unlink(path);
		}
	}
	(void)closedir(d);
	reap_ended(v);
}
