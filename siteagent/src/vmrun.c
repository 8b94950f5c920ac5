#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent_int.h"
#include "base/env.h"
#include "base/err.h"
#include "base/fs.h"
#include "base/thread.h"
#include "hv_int.h"
#include "imaging/cut.h"
#include "imaging/dev.h"
#include "proc_int.h"
#include "vmdesc_int.h"
#include "vmrun_int.h"

#define CALL_NS         UINT64_C(10000000000)
#define START_NS        UINT64_C(60000000000)
#define END_NS          UINT64_C(10000000000)
#define LOCK_NS         UINT64_C(120000000000) /* a start and an end, and some more */
#define STEP_NS         UINT64_C(10000000)
#define NOBODY          65534u
#define OWN_USER        "lifeboat-vm"
#define PATH_TEXT       256
#define ORDER_MAX_BYTES (4u << 20) /* of 64 KiB batches: of 64 GiB */
#define SIDE_MAX        (UINT64_C(4) << 30)

/* ---- which process it is ---- */

static int path_of(char out[PATH_TEXT], const char *dir, const char *file, struct lb_err *err)
{
	int n = snprintf(out, PATH_TEXT, "%s/%s", dir, file);

	return n > 0 && n < PATH_TEXT
		       ? 0
		       : lb_err_set(err, LB_EINPUT, 0, "path too long: %.150s/%s", dir, file);
}

/* Start time of @pid in clock ticks since boot: with the boot id it names a process for good.
 * Field 22 of /proc/PID/stat, counted after the name, which may hold anything. 0: no such process.
 */
static uint64_t start_ticks(pid_t pid, bool *zombie)
{
	char path[64], text[1024];
	const char *p;

	*zombie = false;
	(void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if (sa_read_text(path, text, sizeof(text)) == 0)
		return 0;
	p = strrchr(text, ')');
	if (p == NULL || p[1] != ' ')
		return 0;
	p += 2;
	*zombie = *p == 'Z' || *p == 'X';
	for (int field = 3; field < 22 && p != NULL; field++) {
		p = strchr(p, ' ');
		p = p != NULL ? p + 1 : NULL;
	}
	return p != NULL ? strtoull(p, NULL, 10) : 0;
}

static void boot_id(char out[64])
{
	(void)sa_read_text("/proc/sys/kernel/random/boot_id", out, 64);
	out[strcspn(out, "\n")] = '\0';
}

static int write_record(const char *dir, const char *name, pid_t pid, struct lb_err *err)
{
	char boot[64];
	struct lb_fs *fs = NULL;
	bool zombie;
	char *text;
	json_t *o;
	int rc;

	boot_id(boot);
	o = json_pack("{s:i, s:s, s:I, s:s, s:I}", "format", 1, "name", name, "pid",
		      (json_int_t)pid, "boot_id", boot, "start_ticks",
		      (json_int_t)start_ticks(pid, &zombie));
	text = o != NULL ? json_dumps(o, JSON_INDENT(1) | JSON_SORT_KEYS) : NULL;
	json_decref(o);
	rc = text == NULL ? lb_err_set(err, LB_ENOMEM, 0, "record of machine %s", name)
			  : lb_fs_dir_create(&fs, dir, err);
	if (rc == 0)
		rc = lb_fs_replace(fs, "vm.json", text, strlen(text), err);
	lb_fs_destroy(fs);
	free(text);
	return rc;
}

/* Is the process the record @o names there? One that ended and is our child is reaped. */
static bool same_process(const json_t *o, pid_t *pid)
{
	const char *is_boot = json_string_value(json_object_get(o, "boot_id"));
	json_int_t ticks = json_integer_value(json_object_get(o, "start_ticks"));
	bool zombie = false;
	char boot[64];

	boot_id(boot);
	*pid = (pid_t)json_integer_value(json_object_get(o, "pid"));
	if (is_boot == NULL || strcmp(is_boot, boot) != 0 || *pid <= 1 || ticks <= 0 ||
	    start_ticks(*pid, &zombie) != (uint64_t)ticks)
		return false;
	/* its first thread may be done before the others are: then it is not waitable yet */
	return !zombie || sa_proc_alive(*pid);
}

bool sa_vmrun_alive(const char *dir, pid_t *pid)
{
	char path[PATH_TEXT], text[1024];
	pid_t is = 0;
	bool alive;
	json_t *o;

	if (path_of(path, dir, "vm.json", NULL) != 0 || sa_read_text(path, text, sizeof(text)) == 0)
		return false;
	o = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
	alive = same_process(o, &is);
	json_decref(o);
	if (alive && pid != NULL)
		*pid = is;
	return alive;
}

/* ---- talking to it ---- */

int sa_vmrun_open(struct vm_ctl **out, const char *dir, struct lb_err *err)
{
	char path[PATH_TEXT];
	int rc = path_of(path, dir, "vm.sock", err);

	if (rc == 0 && !sa_vmrun_alive(dir, NULL))
		rc = lb_err_set(err, LB_ENOTFOUND, 0, "no machine runs in %s", dir);
	return rc == 0 ? vm_ctl_open(out, path, CALL_NS, err) : rc;
}

int sa_vmrun_ask(const char *dir, enum vm_ctl_type request, uint64_t n, enum vm_ctl_type want,
		 struct vm_ctl_msg *answer, struct lb_err *err)
{
	const struct vm_ctl_msg rq = {.type = request, .n = n};
	struct vm_ctl *c = NULL;
	int rc = sa_vmrun_open(&c, dir, err);

	if (rc == 0)
		rc = vm_ctl_call(c, &rq, want, answer, NULL, err);
	if (rc == 0)
		answer->bytes = NULL; /* they were the connection's */
	vm_ctl_close(c);
	return rc;
}

int sa_vmrun_order(const char *dir, uint8_t **out, size_t *bytes, struct lb_err *err)
{
	const struct vm_ctl_msg rq = {.type = VM_CTL_GET_ORDER};
	struct vm_ctl_msg answer = {.n = 0};
	struct vm_ctl *c = NULL;
	int fds[3] = {-1, -1, -1};
	uint8_t *p = NULL;
	int rc = sa_vmrun_open(&c, dir, err);

	if (rc == 0)
		rc = vm_ctl_call(c, &rq, VM_CTL_MAP, &answer, fds, err);
	if (rc == 0 && (fds[0] < 0 || answer.n == 0))
		rc = lb_err_set(err, LB_ENOTFOUND, 0, "it touched no memory of a checkpoint");
	if (rc == 0 && (answer.n > ORDER_MAX_BYTES || answer.n % sizeof(uint32_t) != 0))
		rc = lb_err_set(err, LB_EPROTO, 0, "an order of %" PRIu64 " bytes", answer.n);
	if (rc == 0 && (p = malloc(answer.n)) == NULL)
		rc = lb_err_set(err, LB_ENOMEM, 0, "order of first touch");
	if (rc == 0 && pread(fds[0], p, answer.n, 0) != (ssize_t)answer.n)
		rc = lb_err_set(err, LB_EPROTO, 0, "its order is shorter than it says");
	if (rc == 0) {
		*out = p;
		*bytes = answer.n;
		p = NULL;
	}
	free(p);
	for (int i = 0; i < 3; i++)
		if (fds[i] >= 0)
			(void)close(fds[i]);
	vm_ctl_close(c);
	return rc;
}

/* ---- ending it ---- */

static bool gone_within(const char *dir, uint64_t ns)
{
	uint64_t until = lb_monotonic_ns() + ns;

	while (sa_vmrun_alive(dir, NULL)) {
		if (lb_monotonic_ns() > until)
			return false;
		sa_nap(STEP_NS);
	}
	return true;
}

/* *fd: the process that runs in @dir; -1: none does. */
static int open_process(int *fd, const char *dir, pid_t *pid, struct lb_err *err)
{
	*fd = -1;
	if (!sa_vmrun_alive(dir, pid))
		return 0;
	*fd = pidfd_open(*pid, 0);
	if (*fd < 0)
		return errno == ESRCH ? 0 : lb_err_errno(err, errno, "open process %d", (int)*pid);
	/* Looked at again: from here on the pid cannot have become another's. */
	if (!sa_vmrun_alive(dir, NULL)) {
		(void)close(*fd);
		*fd = -1;
	}
	return 0;
}

static int end_process(int fd, const char *dir, pid_t pid, struct lb_err *err)
{
	struct vm_ctl_msg answer;

	/* one that does not even answer gets no more time */
	if (sa_vmrun_ask(dir, VM_CTL_STOP, 0, VM_CTL_OK, &answer, NULL) == 0 &&
	    gone_within(dir, END_NS))
		return 0;
	(void)pidfd_send_signal(fd, SIGKILL, NULL, 0);
	if (gone_within(dir, END_NS))
		return 0;
	return lb_err_set(err, LB_ETIMEDOUT, 0, "process %d of the machine in %s does not end",
			  (int)pid, dir);
}

int sa_vmrun_end(const char *dir, struct lb_err *err)
{
	int lock = -1, fd = -1, rc;
	pid_t pid = 0;

	if (access(dir, F_OK) != 0 && errno == ENOENT)
		return 0;
	rc = sa_lock_dir(&lock, dir, LOCK_NS, err);
	if (rc != 0)
		return rc;
	rc = open_process(&fd, dir, &pid, err);
	if (rc == 0 && fd >= 0)
		rc = end_process(fd, dir, pid, err);
	if (fd >= 0)
		(void)close(fd);
	(void)close(lock);
	return rc;
}

/* ---- what it is given ---- */

struct launch {
	const struct sa_vmrun *r;
	struct vm_launch l;
	int fd[VM_CTL_FDS_MAX];
};

/* Takes @fd. */
static int give(struct launch *q, enum vm_launch_role role, uint32_t index, int fd,
		struct lb_err *err)
{
	if (q->l.fds == VM_CTL_FDS_MAX) {
		(void)close(fd);
		return lb_err_set(err, LB_EUNSUPPORTED, 0, "machine with too many devices");
	}
	q->l.fd[q->l.fds] = (struct vm_launch_fd){.role = role, .index = index};
	q->fd[q->l.fds++] = fd;
	return 0;
}

static int give_path(struct launch *q, enum vm_launch_role role, uint32_t index, const char *path,
		     int flags, struct lb_err *err)
{
	int fd = open(path, flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0600);

	if (fd < 0)
		return lb_err_errno(err, errno, "open %s", path);
	return give(q, role, index, fd, err);
}

static int give_file(struct launch *q, enum vm_launch_role role, uint32_t index, const char *file,
		     int flags, struct lb_err *err)
{
	char path[PATH_TEXT];
	int rc = path_of(path, q->r->dir, file, err);

	return rc == 0 ? give_path(q, role, index, path, flags | O_NOFOLLOW, err) : rc;
}

static int socket_address(struct sockaddr_un *sa, const char *path, struct lb_err *err)
{
	*sa = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof(sa->sun_path))
		return lb_err_set(err, LB_EINPUT, 0, "path of a socket is too long: %s", path);
	memcpy(sa->sun_path, path, strlen(path) + 1);
	return 0;
}

static int give_listener(struct launch *q, enum vm_launch_role role, const char *file, int type,
			 struct lb_err *err)
{
	char path[PATH_TEXT];
	struct sockaddr_un sa;
	int fd = -1, rc = path_of(path, q->r->dir, file, err);

	if (rc == 0)
		rc = socket_address(&sa, path, err);
	if (rc != 0)
		return rc;
	(void)unlink(path);
	fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	/* the directory is ours alone, so nobody connects before the mode is set */
	if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) != 0 || chmod(path, 0600) != 0 ||
	    listen(fd, 16) != 0) {
		rc = lb_err_errno(err, errno, "listen at %s", path);
		if (fd >= 0)
			(void)close(fd);
		return rc;
	}
	return give(q, role, 0, fd, err);
}

static int give_connection(struct launch *q, enum vm_launch_role role, uint32_t index,
			   const char *path, struct lb_err *err)
{
	struct sockaddr_un sa;
	int fd, rc = socket_address(&sa, path, err);

	if (rc != 0)
		return rc;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&sa, sizeof(sa)) != 0) {
		rc = lb_err_errno(err, errno, "connect to the view at %s", path);
		if (fd >= 0)
			(void)close(fd);
		return rc;
	}
	return give(q, role, index, fd, err);
}

/* A directory that was removed stays empty for ever: nothing can be made in it any more. */
static int give_root(struct launch *q, struct lb_err *err)
{
	char path[PATH_TEXT];
	int fd, rc = path_of(path, q->r->dir, "root", err);

	if (rc != 0)
		return rc;
	if (mkdir(path, 0500) != 0 && errno != EEXIST)
		return lb_err_errno(err, errno, "make %s", path);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 || rmdir(path) != 0) {
		rc = lb_err_errno(err, errno, "take away %s", path);
		if (fd >= 0)
			(void)close(fd);
		return rc;
	}
	return give(q, VM_FD_ROOT, 0, fd, err);
}

static int file_of_size(struct launch *q, enum vm_launch_role role, uint32_t i, const char *file,
			uint64_t bytes, struct lb_err *err)
{
	int rc = give_file(q, role, i, file, O_RDWR | O_CREAT, err);

	if (rc == 0 && ftruncate(q->fd[q->l.fds - 1], (off_t)bytes) != 0)
		rc = lb_err_errno(err, errno, "make %s/%s %" PRIu64 " bytes long", q->r->dir, file,
				  bytes);
	return rc;
}

/* What cuts of the disk need beside it. The side store holds old blocks while a cut is read: as
 * much as the disk, or SIDE_MAX; sparse. */
static int give_cut(struct launch *q, uint32_t i, struct lb_err *err)
{
	uint64_t disk = q->r->disk[i].size_bytes;
	char file[SA_VMDESC_NAME_BYTES + 8];
	int rc;

	(void)snprintf(file, sizeof(file), "%s.side", q->r->desc->disk[i].name);
	rc = file_of_size(q, VM_FD_DISK_SIDE, i, file,
			  disk < SIDE_MAX ? (disk + 4095) / 4096 * 4096 : SIDE_MAX, err);
	(void)snprintf(file, sizeof(file), "%s.log", q->r->desc->disk[i].name);
	return rc == 0 ? file_of_size(q, VM_FD_DISK_LOG, i, file, img_cut_log_bytes(disk, 0), err)
		       : rc;
}

static int give_disk(struct launch *q, uint32_t i, struct lb_err *err)
{
	const struct sa_vmrun_disk *d = &q->r->disk[i];
	const struct sa_vmdesc_disk *is = &q->r->desc->disk[i];
	struct vm_launch_disk *to = &q->l.disk[i];
	char file[SA_VMDESC_NAME_BYTES + 8];
	int rc;

	*to = (struct vm_launch_disk){.bus = is->bus,
				      .overlay = d->path == NULL,
				      .size_bytes = d->size_bytes,
				      .point = d->point};
	(void)snprintf(to->serial, sizeof(to->serial), "%.20s", is->name);
	(void)snprintf(to->label, sizeof(to->label), "%s", is->name);
	if (d->path != NULL) {
		rc = give_path(q, VM_FD_DISK_DATA, i, d->path, O_RDWR, err);
		return rc == 0 && d->logged ? give_cut(q, i, err) : rc;
	}
	(void)snprintf(file, sizeof(file), "%s.cow", is->name);
	rc = file_of_size(q, VM_FD_DISK_DATA, i, file, d->size_bytes, err);
	(void)snprintf(file, sizeof(file), "%s.cowmap", is->name);
	if (rc == 0)
		rc = file_of_size(q, VM_FD_DISK_MAP, i, file, img_kept_map_bytes(d->size_bytes),
				  err);
	if (rc == 0)
		rc = give_connection(q, VM_FD_DISK_VIEW, i, d->view_socket, err);
	return rc;
}

static int give_nic(struct launch *q, uint32_t i, struct lb_err *err)
{
	const struct sa_vmrun *r = q->r;
	struct sa_hv_machine named = {.disks = 0};
	char tap[SA_HV_TAP_BYTES], log[PATH_TEXT];
	int fd = -1, rc;

	memcpy(q->l.nic[i].mac, r->desc->mac[i], sizeof(q->l.nic[i].mac));
	q->l.nic[i].tap = r->netns != NULL || r->bridge != NULL;
	if (!q->l.nic[i].tap)
		return 0;
	(void)snprintf(named.name, sizeof(named.name), "%s", r->desc->name);
	sa_hv_tap(&named, i, tap);
	rc = path_of(log, r->dir, "ip.log", err);
	if (rc == 0)
		rc = sa_tap_open(&fd, tap, r->netns, r->bridge, log, err);
	return rc == 0 ? give(q, VM_FD_TAP, i, fd, err) : rc;
}

static int give_bytes(struct launch *q, enum vm_launch_role role, const void *p, size_t bytes,
		      const char *what, struct lb_err *err)
{
	int fd = memfd_create(what, MFD_CLOEXEC), rc;

	/* banned-ok: a memfd */
	if (fd < 0 || write(fd, p, bytes) != (ssize_t)bytes) {
		rc = lb_err_errno(err, errno, "memory for the %s", what);
		if (fd >= 0)
			(void)close(fd);
		return rc;
	}
	return give(q, role, 0, fd, err);
}

static int give_checkpoint(struct launch *q, struct lb_err *err)
{
	const struct sa_vmrun *r = q->r;
	int rc = give_bytes(q, VM_FD_STATE, r->state, r->state_bytes, "checkpoint", err);

	if (rc == 0 && r->order_bytes > 0 && r->order_bytes <= ORDER_MAX_BYTES)
		rc = give_bytes(q, VM_FD_ORDER, r->order, r->order_bytes, "order", err);
	return rc == 0 ? give_connection(q, VM_FD_RAM, 0, r->ram_socket, err) : rc;
}

static int give_firmware(struct launch *q, struct lb_err *err)
{
	const struct sa_vmrun *r = q->r;
	int rc = give_path(q, VM_FD_BIOS, 0, r->firmware, O_RDONLY, err);

	/* a machine without a screen is better than none */
	if (rc == 0 && r->vga_firmware != NULL && access(r->vga_firmware, R_OK) == 0)
		rc = give_path(q, VM_FD_VGA_BIOS, 0, r->vga_firmware, O_RDONLY, err);
	return rc;
}

static int give_kernel(struct launch *q, struct lb_err *err)
{
	const struct sa_vmrun *r = q->r;
	int rc;

	memcpy(q->l.cmdline, r->desc->cmdline, sizeof(q->l.cmdline));
	rc = give_path(q, VM_FD_KERNEL, 0, r->kernel, O_RDONLY, err);
	if (rc == 0 && r->initrd != NULL)
		rc = give_path(q, VM_FD_INITRD, 0, r->initrd, O_RDONLY, err);
	return rc;
}

/* A machine that goes on from memory has its firmware there; of a kernel, a reset needs the file.
 * One that cannot be reset is better than none. */
static int give_reset(struct launch *q, struct lb_err *err)
{
	const struct sa_vmrun *r = q->r;

	if (!r->desc->direct_kernel || r->kernel == NULL || access(r->kernel, R_OK) != 0 ||
	    (r->initrd != NULL && access(r->initrd, R_OK) != 0))
		return 0;
	return give_kernel(q, err);
}

static int give_boot(struct launch *q, struct lb_err *err)
{
	const struct sa_vmrun *r = q->r;
	int rc = 0;

	if (r->state != NULL) {
		rc = give_checkpoint(q, err);
		q->l.boot = VM_LAUNCH_RESTORE;
		return rc == 0 ? give_reset(q, err) : rc;
	}
	if (r->cpu != NULL)
		rc = give_bytes(q, VM_FD_CPU, r->cpu, r->cpu_bytes, "CPU template", err);
	if (rc != 0)
		return rc;
	if (!r->desc->direct_kernel) {
		q->l.boot = VM_LAUNCH_BIOS;
		return give_firmware(q, err);
	}
	if (r->kernel == NULL)
		return lb_err_set(err, LB_EUNSUPPORTED, 0,
				  "direct kernel boot, and no kernel is configured here");
	q->l.boot = VM_LAUNCH_LINUX;
	return give_kernel(q, err);
}

/* Somebody of its own if there is one; root's machines are nobody's otherwise. */
static void choose_user(struct vm_launch *l)
{
	const struct passwd *pw;

	if (geteuid() != 0)
		return;
	pw = getpwnam(OWN_USER);
	l->uid = pw != NULL && pw->pw_uid != 0 ? pw->pw_uid : NOBODY;
	l->gid = pw != NULL && pw->pw_gid != 0 ? pw->pw_gid : NOBODY;
}

static int describe(struct launch *q, struct lb_err *err)
{
	const struct sa_vmrun *r = q->r;
	const struct sa_vmdesc *d = r->desc;
	int rc;

	q->l.uuid = d->uuid;
	(void)snprintf(q->l.name, sizeof(q->l.name), "%s", d->name);
	choose_user(&q->l);
	q->l.ram_bytes = d->ram_bytes;
	q->l.vcpus = d->vcpus;
	q->l.restore_mode = VM_RESTORE_LAZY;
	q->l.clock = r->frozen_clock ? VM_CLOCK_FROZEN : VM_CLOCK_ADVANCE;
	q->l.announce = r->announce;
	q->l.complement = r->complement;
	q->l.commit_bytes = r->commit_bytes;
	q->l.disks = (uint32_t)d->disks;
	q->l.nics = (uint32_t)d->nics;
	rc = give_listener(q, VM_FD_LISTEN, "vm.sock", SOCK_SEQPACKET, err);
	if (rc == 0)
		rc = give_listener(q, VM_FD_HEARTBEAT, "heartbeat.sock", SOCK_STREAM, err);
	if (rc == 0)
		rc = give_file(q, VM_FD_SERIAL_LOG, 0, "serial.log", O_RDWR | O_CREAT | O_TRUNC,
			       err);
	if (rc == 0)
		rc = give_root(q, err);
	if (rc == 0)
		rc = give_boot(q, err);
	for (uint32_t i = 0; i < q->l.disks && rc == 0; i++)
		rc = give_disk(q, i, err);
	for (uint32_t i = 0; i < q->l.nics && rc == 0; i++)
		rc = give_nic(q, i, err);
	return rc;
}

/* ---- starting ---- */

static int await_report(int sock, struct lb_err *err)
{
	uint8_t *frame = malloc(VM_CTL_FRAME_MAX);
	struct vm_ctl_msg *m = malloc(sizeof(*m));
	struct pollfd p = {.fd = sock, .events = POLLIN};
	size_t len = VM_CTL_FRAME_MAX, none = 0;
	int fds[1], rc = 0;

	if (frame == NULL || m == NULL)
		rc = lb_err_set(err, LB_ENOMEM, 0, "start of a machine");
	else if (poll(&p, 1, (int)(START_NS / 1000000u)) != 1)
		rc = lb_err_set(err, LB_ETIMEDOUT, 0, "lifeboat-vm did not start in time");
	if (rc == 0)
		rc = vm_ctl_recv(sock, frame, &len, fds, &none, err);
	if (rc == 0)
		rc = vm_ctl_decode(m, frame, len, err);
	if (rc == 0 && m->type == VM_CTL_ERROR) {
		rc = m->err.code;
		if (err != NULL)
			*err = m->err;
	} else if (rc == 0 && m->type != VM_CTL_OK) {
		rc = lb_err_set(err, LB_EPROTO, 0, "lifeboat-vm reports %s",
				vm_ctl_type_name(m->type));
	}
	free(frame);
	free(m);
	return rc;
}

static int spawn(const struct launch *q, pid_t *pid, int *sock, struct lb_err *err)
{
	const char *argv[] = {q->r->program, NULL};
	char log[PATH_TEXT];
	int pair[2];
	int rc = path_of(log, q->r->dir, "vm.log", err);

	if (rc != 0)
		return rc;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
		return lb_err_errno(err, errno, "make a socket pair");
	rc = sa_proc_start_with(pid, argv, log, pair[1], err);
	(void)close(pair[1]);
	if (rc != 0)
		(void)close(pair[0]);
	else
		*sock = pair[0];
	return rc;
}

/* Who is our child and did not start; its record may let another thread reap it. */
static void kill_child(int fd)
{
	siginfo_t si;

	(void)pidfd_send_signal(fd, SIGKILL, NULL, 0);
	while (waitid(P_PIDFD, (id_t)fd, &si, WEXITED) != 0 && errno == EINTR)
		;
}

static int start_process(struct launch *q, struct lb_err *err)
{
	uint8_t bytes[VM_LAUNCH_BYTES_MAX];
	size_t len = 0;
	pid_t pid = -1;
	int sock = -1, fd;
	int rc = vm_launch_encode(bytes, sizeof(bytes), &len, &q->l, err);

	if (rc == 0)
		rc = spawn(q, &pid, &sock, err);
	if (rc != 0)
		return rc;
	fd = pidfd_open(pid, 0);
	if (fd < 0) { /* it ends when it hears that nobody tells it what to run */
		rc = lb_err_errno(err, errno, "open process %d", (int)pid);
		(void)close(sock);
		sa_proc_end(pid, END_NS);
		return rc;
	}
	rc = write_record(q->r->dir, q->l.name, pid, err);
	if (rc == 0)
		rc = vm_ctl_send(sock, bytes, len, q->fd, q->l.fds, err);
	if (rc == 0)
		rc = await_report(sock, err);
	if (rc == LB_ECLOSED)
		rc = lb_err_set(err, LB_EIO, 0, "lifeboat-vm ended before it said why");
	(void)close(sock);
	if (rc != 0)
		kill_child(fd);
	(void)close(fd);
	return rc;
}

static int start_alone(struct launch *q, struct lb_err *err)
{
	const char *dir = q->r->dir;
	int rc = sa_vmrun_alive(dir, NULL)
			 ? lb_err_set(err, LB_EBUSY, 0, "machine %s runs already", q->r->desc->name)
			 : describe(q, err);

	if (rc == 0)
		rc = start_process(q, err);
	for (uint32_t i = 0; i < q->l.fds; i++)
		(void)close(q->fd[i]);
	return rc;
}

int sa_vmrun_start(const struct sa_vmrun *r, struct lb_err *err)
{
	struct launch *q = calloc(1, sizeof(*q));
	int lock = -1, rc;

	if (q == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "start of machine %s", r->desc->name);
	q->r = r;
	rc = sa_lock_dir(&lock, r->dir, LOCK_NS, err);
	if (rc == 0)
		rc = start_alone(q, err);
	if (lock >= 0)
		(void)close(lock);
	free(q);
	return rc;
}
