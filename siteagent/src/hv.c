#include "siteagent/hv.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "hv_int.h"

#define NAME_CHARS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"

static bool copy_text(char **to, const char *from)
{
	*to = from != NULL && from[0] != '\0' ? strdup(from) : NULL;
	return from == NULL || from[0] == '\0' || *to != NULL;
}

int sa_hv_create(struct sa_hv **out, const struct sa_hv_cfg *cfg, struct lb_err *err)
{
	struct sa_hv *hv;

	if (strcmp(cfg->driver, sa_hv_libvirt_ops.driver) != 0)
		return lb_err_set(err, LB_EINPUT, 0,
				  "unknown hypervisor driver \"%.40s\", known: libvirt",
				  cfg->driver);
	if (cfg->uri == NULL || cfg->uri[0] == '\0')
		return lb_err_set(err, LB_EINPUT, 0, "hypervisor libvirt needs a uri");
	hv = calloc(1, sizeof(*hv));
	if (hv == NULL || !copy_text(&hv->uri, cfg->uri) || !copy_text(&hv->kernel, cfg->kernel) ||
	    !copy_text(&hv->initrd, cfg->initrd)) {
		sa_hv_destroy(hv);
		return lb_err_set(err, LB_ENOMEM, 0, "hypervisor");
	}
	hv->ops = &sa_hv_libvirt_ops;
	hv->kvm = cfg->kvm;
	*out = hv;
	return 0;
}

void sa_hv_destroy(struct sa_hv *hv)
{
	if (hv == NULL)
		return;
	free(hv->uri);
	free(hv->kernel);
	free(hv->initrd);
	free(hv);
}

/* ---- names and paths ---- */

int sa_hv_path(const struct sa_hv_machine *m, const char *file, char *out, struct lb_err *err)
{
	int n = snprintf(out, PATH_MAX, "%s/%s", m->dir, file);

	if (n < 0 || n >= PATH_MAX)
		return lb_err_set(err, LB_EINPUT, 0, "path too long: %.200s/%s", m->dir, file);
	return 0;
}

int sa_hv_overlay(const struct sa_hv_machine *m, size_t disk, char *out, struct lb_err *err)
{
	char file[SA_HV_NAME_BYTES + 8];

	(void)snprintf(file, sizeof(file), "%s.qcow2", m->disk[disk]);
	return sa_hv_path(m, file, out, err);
}

void sa_hv_tap(const struct sa_hv_machine *m, size_t n, char out[SA_HV_TAP_BYTES])
{
	uint64_t h = UINT64_C(0xcbf29ce484222325); /* FNV-1a: a name for people, not a secret */

	for (const char *p = m->name; *p != '\0'; p++)
		h = (h ^ (unsigned char)*p) * UINT64_C(0x100000001b3);
	(void)snprintf(out, SA_HV_TAP_BYTES, "lb%010" PRIx64 "n%u", h & UINT64_C(0xffffffffff),
		       (unsigned)n & 0xf);
}

static bool name_ok(const char *s)
{
	size_t n = strnlen(s, SA_HV_NAME_BYTES);

	return n > 0 && n < SA_HV_NAME_BYTES && s[0] != '.' && s[0] != '-' &&
	       strspn(s, NAME_CHARS) == n;
}

static int take_name(char *out, const char *name, const char *what, struct lb_err *err)
{
	if (name == NULL)
		return 0;
	if (!name_ok(name))
		return lb_err_set(err, LB_EINPUT, 0, "\"%.64s\" cannot name a %s", name, what);
	memcpy(out, name, strlen(name) + 1);
	return 0;
}

/* Our handle for what @cfg describes; everything in it is checked. */
static int machine_init(struct sa_hv_machine *m, struct sa_hv *hv, const struct sa_hv_boot_cfg *cfg,
			struct lb_err *err)
{
	int rc = take_name(m->name, cfg->name, "domain", err);

	m->hv = hv;
	if (rc == 0)
		rc = take_name(m->netns, cfg->netns, "network namespace", err);
	if (rc == 0)
		rc = take_name(m->bridge, cfg->bridge, "bridge", err);
	if (rc == 0 && (cfg->disk_count == 0 || cfg->disk_count > SA_HV_DISKS_MAX))
		rc = lb_err_set(err, LB_EINPUT, 0, "a machine with %zu disks", cfg->disk_count);
	for (size_t i = 0; i < cfg->disk_count && rc == 0; i++)
		rc = take_name(m->disk[i], cfg->disks[i].name, "disk", err);
	if (rc == 0 && (cfg->dir[0] != '/' || strlen(cfg->dir) >= sizeof(m->dir)))
		rc = lb_err_set(err, LB_EINPUT, 0,
				"directory \"%.200s\" is not absolute or too long", cfg->dir);
	if (rc != 0)
		return rc;
	m->disks = cfg->disk_count;
	memcpy(m->dir, cfg->dir, strlen(cfg->dir) + 1);
	return 0;
}

static int machine_create(struct sa_hv_machine **out, struct sa_hv *hv,
			  const struct sa_hv_boot_cfg *cfg, struct lb_err *err)
{
	struct sa_hv_machine *m = calloc(1, sizeof(*m));
	int rc;

	if (m == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "machine %s", cfg->name);
	rc = machine_init(m, hv, cfg, err);
	if (rc != 0)
		free(m);
	else
		*out = m;
	return rc;
}

/* ---- driver calls ---- */

int sa_hv_fits(struct sa_hv *hv, const struct sa_hv_boot_cfg *cfg, struct lb_err *err)
{
	return hv->ops->fits(hv, cfg, err);
}

int sa_hv_prepare(struct sa_hv *hv, struct sa_hv_machine **out, const struct sa_hv_boot_cfg *cfg,
		  struct lb_err *err)
{
	struct sa_hv_machine *m = NULL;
	int rc = machine_create(&m, hv, cfg, err);

	if (m == NULL)
		return rc;
	if (mkdir(m->dir, 0700) != 0 && errno != EEXIST)
		rc = lb_err_errno(err, errno, "make directory %s", m->dir);
	if (rc == 0)
		rc = hv->ops->prepare(m, cfg, err);
	if (rc != 0) {
		free(m);
		return lb_err_wrap(err, rc, "prepare machine %s", cfg->name);
	}
	*out = m;
	return 0;
}

int sa_hv_adopt(struct sa_hv *hv, struct sa_hv_machine **out, const struct sa_hv_boot_cfg *cfg,
		struct lb_err *err)
{
	struct sa_hv_machine *m = NULL;
	int rc = machine_create(&m, hv, cfg, err);

	if (m == NULL)
		return rc;
	rc = hv->ops->adopt(m, cfg, err);
	if (rc != 0)
		free(m);
	else
		*out = m;
	return rc;
}

void sa_hv_machine_destroy(struct sa_hv_machine *m)
{
	free(m);
}

static int named(const struct sa_hv_machine *m, int rc, const char *what, struct lb_err *err)
{
	return rc != 0 ? lb_err_wrap(err, rc, "%s machine %s", what, m->name) : 0;
}

int sa_hv_start(struct sa_hv_machine *m, struct lb_err *err)
{
	return named(m, m->hv->ops->start(m, err), "start", err);
}

int sa_hv_pause(struct sa_hv_machine *m, struct lb_err *err)
{
	return named(m, m->hv->ops->pause(m, err), "pause", err);
}

int sa_hv_resume(struct sa_hv_machine *m, struct lb_err *err)
{
	return named(m, m->hv->ops->resume(m, err), "resume", err);
}

int sa_hv_stop(struct sa_hv_machine *m, bool remove_overlays, struct lb_err *err)
{
	char path[PATH_MAX];
	int rc = named(m, m->hv->ops->stop(m, err), "stop", err);

	for (size_t i = 0; i < m->disks && rc == 0 && remove_overlays; i++) {
		rc = sa_hv_overlay(m, i, path, err);
		if (rc == 0 && unlink(path) != 0 && errno != ENOENT)
			rc = lb_err_errno(err, errno, "remove %s", path);
	}
	return rc;
}

int sa_hv_state(struct sa_hv_machine *m, enum sa_hv_state *out, struct lb_err *err)
{
	return m->hv->ops->state(m, out, err);
}

int sa_hv_console(struct sa_hv_machine *m, char *buf, size_t len, size_t *got, struct lb_err *err)
{
	return sa_hv_console_at(m->dir, buf, len, got, err);
}

int sa_hv_console_at(const char *dir, char *buf, size_t len, size_t *got, struct lb_err *err)
{
	char path[PATH_MAX];
	struct stat st;
	ssize_t n = -1;
	int fd, rc = 0;

	if (snprintf(path, sizeof(path), "%s/serial.log", dir) >= (int)sizeof(path))
		return lb_err_set(err, LB_EINPUT, 0, "path too long: %.200s/serial.log", dir);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd >= 0 && fstat(fd, &st) == 0)
		n = pread(fd, buf, len, (uint64_t)st.st_size > len ? st.st_size - (off_t)len : 0);
	if (n < 0)
		rc = lb_err_errno(err, errno, "console %s", path);
	else
		*got = (size_t)n;
	if (fd >= 0)
		(void)close(fd);
	return rc;
}
