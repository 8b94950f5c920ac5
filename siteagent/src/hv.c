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
#include "vmcore/host.h"

#define SEABIOS    "/usr/share/seabios/bios-256k.bin"
#define NAME_CHARS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"

static bool copy_text(char **to, const char *from)
{
	*to = from != NULL && from[0] != '\0' ? strdup(from) : NULL;
	return from == NULL || from[0] == '\0' || *to != NULL;
}

static bool prefer_of(const char *name, enum sa_hv_prefer *out)
{
	static const char *const names[] = {"auto", "libvirt", "vmcore"};

	for (int i = 0; i < 3; i++)
		if (strcmp(name, names[i]) == 0) {
			*out = (enum sa_hv_prefer)i;
			return true;
		}
	return false;
}

static int check_cfg(const struct sa_hv_cfg *cfg, enum sa_hv_prefer *prefer, struct lb_err *err)
{
	if (!prefer_of(cfg->driver, prefer))
		return lb_err_set(err, LB_EINPUT, 0,
				  "unknown hypervisor driver \"%.40s\", known: auto, libvirt, "
				  "vmcore",
				  cfg->driver);
	if (*prefer != SA_HV_VMCORE && (cfg->uri == NULL || cfg->uri[0] == '\0'))
		return lb_err_set(err, LB_EINPUT, 0, "hypervisor %s needs a uri", cfg->driver);
	if (*prefer == SA_HV_VMCORE && cfg->vm_program == NULL)
		return lb_err_set(err, LB_EINPUT, 0, "hypervisor vmcore needs lifeboat-vm");
	return 0;
}

/* QEMU's own emulation is the faster one beside a KVM that emulates too (a kernel's boot: seconds
 * against minutes), and the only one without /dev/kvm. One that just we may not open is libvirt's
 * affair. */
static bool kvm_is_worth_it(void)
{
	struct vm_host host;

	if (access("/dev/kvm", F_OK) != 0)
		return false;
	vm_probe(&host);
	return host.kind != VM_KVM_EMULATING;
}

int sa_hv_create(struct sa_hv **out, const struct sa_hv_cfg *cfg, struct lb_err *err)
{
	const char *firmware = cfg->firmware != NULL ? cfg->firmware : SEABIOS;
	enum sa_hv_prefer prefer = SA_HV_AUTO;
	struct sa_hv *hv;
	int rc = check_cfg(cfg, &prefer, err);

	if (rc != 0)
		return rc;
	hv = calloc(1, sizeof(*hv));
	if (hv == NULL || !copy_text(&hv->uri, cfg->uri) || !copy_text(&hv->kernel, cfg->kernel) ||
	    !copy_text(&hv->initrd, cfg->initrd) || !copy_text(&hv->vm_program, cfg->vm_program) ||
	    !copy_text(&hv->firmware, firmware) ||
	    !copy_text(&hv->vga_firmware, cfg->vga_firmware)) {
		sa_hv_destroy(hv);
		return lb_err_set(err, LB_ENOMEM, 0, "hypervisor");
	}
	hv->prefer = prefer;
	hv->kvm = cfg->kvm && kvm_is_worth_it();
	hv->complement = cfg->complement;
	*out = hv;
	return 0;
}

void sa_hv_destroy(struct sa_hv *hv)
{
	if (hv == NULL)
		return;
	free(hv->uri);
	free(hv->vm_program);
	free(hv->firmware);
	free(hv->vga_firmware);
	free(hv->kernel);
	free(hv->initrd);
	free(hv);
}

/* ---- names and paths ---- */

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

/* ---- which driver ---- */

/* Is it vmcore's? *why gets what decided, in either case. */
static bool suits_vmcore(struct sa_hv *hv, const struct sa_hv_boot_cfg *cfg, char *why)
{
	struct vm_host host;
	struct lb_err err = {0};

	if (hv->vm_program == NULL || access(hv->vm_program, X_OK) != 0) {
		(void)snprintf(why, SA_HV_WHY_BYTES, "libvirt: lifeboat-vm is not installed");
		return false;
	}
	vm_probe(&host);
	if (host.kind != VM_KVM_NATIVE) {
		(void)snprintf(why, SA_HV_WHY_BYTES, "libvirt: KVM is %s (%s)",
			       vm_kvm_kind_name(host.kind), host.detail);
		return false;
	}
	if (sa_hv_vmcore_ops.fits(hv, cfg, &err) != 0) {
		(void)snprintf(why, SA_HV_WHY_BYTES, "libvirt: %.200s", err.msg);
		return false;
	}
	(void)snprintf(why, SA_HV_WHY_BYTES, "vmcore: KVM is native (%s)", host.detail);
	return true;
}

static const struct sa_hv_ops *choose(struct sa_hv *hv, const struct sa_hv_boot_cfg *cfg, char *why)
{
	switch (hv->prefer) {
	case SA_HV_LIBVIRT:
		(void)snprintf(why, SA_HV_WHY_BYTES, "libvirt: as configured");
		return &sa_hv_libvirt_ops;
	case SA_HV_VMCORE:
		(void)snprintf(why, SA_HV_WHY_BYTES, "vmcore: as configured");
		return &sa_hv_vmcore_ops;
	case SA_HV_AUTO:
		break;
	}
	return suits_vmcore(hv, cfg, why) ? &sa_hv_vmcore_ops : &sa_hv_libvirt_ops;
}

const char *sa_hv_why(const struct sa_hv_machine *m)
{
	return m->why;
}

const char *sa_hv_driver(const struct sa_hv_machine *m)
{
	return m->ops->driver;
}

/* ---- driver calls ---- */

int sa_hv_fits(struct sa_hv *hv, const struct sa_hv_boot_cfg *cfg, struct lb_err *err)
{
	char why[SA_HV_WHY_BYTES];

	return choose(hv, cfg, why)->fits(hv, cfg, err);
}

int sa_hv_prepare(struct sa_hv *hv, struct sa_hv_machine **out, const struct sa_hv_boot_cfg *cfg,
		  struct lb_err *err)
{
	struct sa_hv_machine *m = NULL;
	int rc = machine_create(&m, hv, cfg, err);

	if (m == NULL)
		return rc;
	m->ops = choose(hv, cfg, m->why);
	if (cfg->state != NULL && !m->ops->memory) {
		rc = lb_err_set(err, LB_EUNSUPPORTED, 0, "memory points need vmcore; %s", m->why);
		sa_hv_machine_destroy(m);
		return rc;
	}
	if (mkdir(m->dir, 0700) != 0 && errno != EEXIST)
		rc = lb_err_errno(err, errno, "make directory %s", m->dir);
	if (rc == 0)
		rc = m->ops->prepare(m, cfg, err);
	if (rc != 0) {
		sa_hv_machine_destroy(m);
		return lb_err_wrap(err, rc, "prepare machine %s", cfg->name);
	}
	*out = m;
	return 0;
}

/* libvirt's machines have their overlays before they are defined, and as long as they are. */
static int adopt_libvirt(struct sa_hv_machine *m, const struct sa_hv_boot_cfg *cfg,
			 struct lb_err *err)
{
	const struct sa_hv *hv = m->hv;
	char path[PATH_MAX];
	bool any = false;

	for (size_t i = 0; i < m->disks && !any; i++) {
		int rc = sa_hv_overlay(m, i, path, err);

		if (rc != 0)
			return rc;
		any = access(path, F_OK) == 0;
	}
	if (!any)
		return lb_err_set(err, LB_ENOTFOUND, 0, "no machine %s of ours", m->name);
	if (hv->uri == NULL || hv->prefer == SA_HV_VMCORE)
		return lb_err_set(
			err, LB_EUNSUPPORTED, 0,
			"machine %s was made by libvirt, which is not configured here any "
			"more",
			m->name);
	m->ops = &sa_hv_libvirt_ops;
	return m->ops->adopt(m, cfg, err);
}

/* Whose it is is seen by what it left in its directory, whatever would be chosen today: so libvirt
 * is not asked for what it never had, and may be away then. */
int sa_hv_adopt(struct sa_hv *hv, struct sa_hv_machine **out, const struct sa_hv_boot_cfg *cfg,
		struct lb_err *err)
{
	struct sa_hv_machine *m = NULL;
	int rc = machine_create(&m, hv, cfg, err);

	if (m == NULL)
		return rc;
	m->ops = &sa_hv_vmcore_ops;
	rc = m->ops->adopt(m, cfg, err);
	if (rc == LB_ENOTFOUND)
		rc = adopt_libvirt(m, cfg, err);
	(void)snprintf(m->why, sizeof(m->why), "%s: found running", m->ops->driver);
	if (rc != 0)
		sa_hv_machine_destroy(m);
	else
		*out = m;
	return rc;
}

void sa_hv_machine_destroy(struct sa_hv_machine *m)
{
	if (m != NULL && m->ops != NULL && m->ops->drop != NULL)
		m->ops->drop(m);
	free(m);
}

static int named(const struct sa_hv_machine *m, int rc, const char *what, struct lb_err *err)
{
	return rc != 0 ? lb_err_wrap(err, rc, "%s machine %s", what, m->name) : 0;
}

int sa_hv_start(struct sa_hv_machine *m, struct lb_err *err)
{
	return named(m, m->ops->start(m, err), "start", err);
}

int sa_hv_pause(struct sa_hv_machine *m, struct lb_err *err)
{
	return named(m, m->ops->pause(m, err), "pause", err);
}

int sa_hv_resume(struct sa_hv_machine *m, struct lb_err *err)
{
	return named(m, m->ops->resume(m, err), "resume", err);
}

static int remove_overlays_of(struct sa_hv_machine *m, struct lb_err *err)
{
	char path[PATH_MAX];
	int rc = 0;

	if (m->ops->remove != NULL)
		return m->ops->remove(m, err);
	for (size_t i = 0; i < m->disks && rc == 0; i++) {
		rc = sa_hv_overlay(m, i, path, err);
		if (rc == 0 && unlink(path) != 0 && errno != ENOENT)
			rc = lb_err_errno(err, errno, "remove %s", path);
	}
	return rc;
}

int sa_hv_stop(struct sa_hv_machine *m, bool remove_overlays, struct lb_err *err)
{
	int rc = named(m, m->ops->stop(m, err), "stop", err);

	return rc == 0 && remove_overlays ? remove_overlays_of(m, err) : rc;
}

int sa_hv_order(struct sa_hv_machine *m, uint8_t **out, size_t *bytes, struct lb_err *err)
{
	if (m->ops->order == NULL)
		return lb_err_set(err, LB_ENOTFOUND, 0, "machine %s touches no view of memory",
				  m->name);
	return m->ops->order(m, out, bytes, err);
}

int sa_hv_state(struct sa_hv_machine *m, enum sa_hv_state *out, struct lb_err *err)
{
	return m->ops->state(m, out, err);
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
