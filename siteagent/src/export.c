#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent_int.h"
#include "base/env.h"
#include "base/fs.h"
#include "export_int.h"
#include "proc_int.h"

#define EXPORTS  "exports"
#define POLL_NS  UINT64_C(100000000)
#define GRACE_NS UINT64_C(5000000000)

/* ---- the directory of one export ---- */

static int make_dir(struct sa_agent *a, char out[SA_PATH_BYTES], struct lb_err *err)
{
	char name[sizeof(EXPORTS) + 20];
	int n, rc = lb_fs_mkdir(a->state, EXPORTS, err);

	(void)snprintf(name, sizeof(name), EXPORTS "/%08x",
		       (unsigned)(lb_env_random_u64(a->env) & 0xffffffffu));
	if (rc == 0)
		rc = lb_fs_mkdir(a->state, name, err);
	if (rc != 0)
		return rc;
	n = snprintf(out, SA_PATH_BYTES, "%s/%s", a->cfg->state_dir, name);
	return n < (int)SA_PATH_BYTES ? 0
				      : lb_err_set(err, LB_EINPUT, 0, "state_dir is too long: %s",
						   a->cfg->state_dir);
}

static void remove_dir(struct sa_agent *a, const char *dir)
{
	char path[SA_PATH_BYTES + 256];
	struct dirent *e;
	DIR *d;

	sa_view_stop_all(a->views, dir);
	d = opendir(dir);
	while (d != NULL && (e = readdir(d)) != NULL) {
		(void)snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
		if (e->d_name[0] != '.')
			(void)unlink(path);
	}
	if (d != NULL)
		(void)closedir(d);
	(void)rmdir(dir);
}

void sa_export_clean(struct sa_agent *a)
{
	char path[2 * SA_PATH_BYTES];
	struct dirent *e;
	DIR *d;

	(void)snprintf(path, sizeof(path), "%s/" EXPORTS, a->cfg->state_dir);
	d = opendir(path);
	while (d != NULL && (e = readdir(d)) != NULL) {
		(void)snprintf(path, sizeof(path), "%s/" EXPORTS "/%s", a->cfg->state_dir,
			       e->d_name);
		if (e->d_name[0] != '.')
			remove_dir(a, path);
	}
	if (d != NULL)
		(void)closedir(d);
}

/* ---- qemu-img ---- */

/* "json:{...}" of the socket: no path in it can be taken for an option. */
static char *source_of(const char *socket)
{
	json_t *o = json_pack("{s:s, s:{s:s, s:{s:s, s:s}}}", "driver", "raw", "file", "driver",
			      "nbd", "server", "type", "unix", "path", socket);
	char *text = o != NULL ? json_dumps(o, JSON_COMPACT) : NULL, *out = NULL;
	size_t n = text != NULL ? strlen(text) + 6 : 0;

	if (text != NULL && (out = malloc(n)) != NULL)
		(void)snprintf(out, n, "json:%s", text);
	json_decref(o);
	free(text);
	return out;
}

/* `qemu-img -p` writes "    (12.50/100%)" and a carriage return, again and again. */
static void read_progress(const char *log, struct sa_job *job, uint64_t all)
{
	char said[64];
	FILE *f = fopen(log, "re");
	const char *p;
	size_t n;

	if (f == NULL)
		return;
	if (fseek(f, -(long)sizeof(said) + 1, SEEK_END) != 0)
		rewind(f);
	n = fread(said, 1, sizeof(said) - 1, f);
	said[n] = '\0';
	p = strrchr(said, '(');
	if (p != NULL)
		sa_job_progress(job, (uint64_t)(strtod(p + 1, NULL) / 100 * (double)all), all);
	(void)fclose(f);
}

/* What it said last, without the progress. */
static void last_words(const char *log, char *out, size_t cap)
{
	char text[1024], *line;

	(void)sa_read_text(log, text, sizeof(text));
	line = strstr(text, "qemu-img:");
	(void)snprintf(out, cap, "%.*s", (int)strcspn(line != NULL ? line : "", "\n"),
		       line != NULL ? line : "");
}

static int wait_for(pid_t pid, struct sa_job *job, const char *log, uint64_t all,
		    struct lb_err *err)
{
	char said[200];
	int status = 0;
	pid_t got;

	while ((got = waitpid(pid, &status, WNOHANG)) == 0) {
		if (sa_job_cancelled(job)) {
			(void)kill(pid, SIGTERM);
			sa_proc_end(pid, GRACE_NS);
			return lb_err_set(err, LB_ECANCELED, 0, "export was cancelled");
		}
		read_progress(log, job, all);
		sa_nap(POLL_NS);
	}
	if (got == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0) {
		sa_job_progress(job, all, all);
		return 0;
	}
	last_words(log, said, sizeof(said));
	return lb_err_set(err, strstr(said, strerror(ENOSPC)) != NULL ? LB_ENOSPC : LB_EIO, 0,
			  "export by qemu-img: %s", said);
}

static int convert(struct sa_job *job, const char *dir, const struct sa_view *view,
		   const char *part, struct lb_err *err)
{
	char log[SA_PATH_BYTES + 16], *source = source_of(view->socket);
	const char *argv[] = {"qemu-img", "convert", "-p", "-O", "qcow2", source, part, NULL};
	pid_t pid;
	int rc;

	if (source == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "export");
	(void)snprintf(log, sizeof(log), "%s/qemu-img", dir);
	rc = sa_proc_start(&pid, argv, log, err);
	if (rc != 0)
		rc = lb_err_wrap(err, rc, "format qcow2 needs qemu-img (package qemu-utils)");
	else
		rc = wait_for(pid, job, log, view->size_bytes, err);
	free(source);
	return rc;
}

/* Of our mode, and nobody else's: qemu-img would write into what is there. */
static int reserve(const char *part, struct lb_err *err)
{
	int fd = open(part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (fd < 0)
		return lb_err_errno(err, errno, "create %s", part);
	(void)close(fd);
	return 0;
}

/* qemu-img leaves its output in the cache. */
static int publish(const char *part, const char *path, struct lb_err *err)
{
	int rc = 0, fd = open(part, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fsync(fd) != 0)
		rc = lb_err_errno(err, errno, "sync %s", part);
	if (fd >= 0)
		(void)close(fd);
	return rc == 0 ? lb_fs_publish(part, path, err) : rc;
}

int sa_export_qcow2(struct sa_agent *a, struct sa_job *job, const struct lb_hash *point,
		    const struct lb_id *volume, const char *path, uint64_t *size_bytes,
		    struct lb_err *err)
{
	char dir[SA_PATH_BYTES], part[SA_PATH_BYTES + 8];
	struct sa_view view;
	int rc;

	(void)snprintf(part, sizeof(part), "%s.part", path);
	if (access(path, F_OK) == 0)
		return lb_err_set(err, LB_EEXIST, 0, "%s is there already", path);
	rc = reserve(part, err);
	if (rc != 0)
		return rc;
	rc = make_dir(a, dir, err);
	if (rc != 0) {
		(void)unlink(part);
		return rc;
	}
	rc = sa_view_serve(a->views, dir, point, volume, "disk", &view, err);
	if (rc == 0)
		rc = convert(job, dir, &view, part, err);
	if (rc == 0)
		rc = publish(part, path, err);
	if (rc == 0)
		*size_bytes = view.size_bytes;
	else
		(void)unlink(part);
	remove_dir(a, dir);
	return rc;
}
