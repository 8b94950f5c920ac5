#include "vm_rig.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

static int listener(const char *path, int type)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	assert_true(fd >= 0);
	(void)snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path);
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	assert_int_equal(listen(fd, 8), 0);
	return fd;
}

void vm_rig_fd(struct vm_rig *r, enum vm_launch_role role, uint32_t index, int fd)
{
	assert_true(fd >= 0);
	r->l.fd[r->l.fds] = (struct vm_launch_fd){.role = role, .index = index};
	r->fd[r->l.fds++] = fd;
}

void vm_rig_init(struct vm_rig *r)
{
	memset(r, 0, sizeof(*r));
	(void)snprintf(r->dir, sizeof(r->dir), "/tmp/vmrig.XXXXXX");
	assert_non_null(mkdtemp(r->dir));
	(void)snprintf(r->path, sizeof(r->path), "%s/vm.sock", r->dir);
	(void)snprintf(r->beat, sizeof(r->beat), "%s/beat.sock", r->dir);
	(void)snprintf(r->log, sizeof(r->log), "%s/serial.log", r->dir);
	(void)snprintf(r->l.name, sizeof(r->l.name), "db01");
	r->l.ram_bytes = 2 << 20;
	r->l.vcpus = 1;
	r->l.boot = VM_LAUNCH_BIOS;
	r->l.restore_mode = VM_RESTORE_LAZY;
	vm_rig_fd(r, VM_FD_LISTEN, 0, listener(r->path, SOCK_SEQPACKET));
	vm_rig_fd(r, VM_FD_HEARTBEAT, 0, listener(r->beat, SOCK_STREAM));
	vm_rig_fd(r, VM_FD_SERIAL_LOG, 0, open(r->log, O_RDWR | O_CREAT | O_CLOEXEC, 0600));
}

static void child(const char *program, int sock, int log_fd)
{
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if ((log_fd > 0 && dup2(log_fd, STDERR_FILENO) < 0) ||
	    dup2(sock, VM_LAUNCH_FD) != VM_LAUNCH_FD)
		_exit(126);
	(void)close_range(VM_LAUNCH_FD + 1, ~0U, 0);
	(void)execl(program, program, (char *)NULL);
	_exit(127);
}

static int report(struct vm_rig *r, int sock)
{
	static uint8_t frame[VM_CTL_FRAME_MAX];
	static struct vm_ctl_msg m;
	size_t len = sizeof(frame), none = 0;
	int fds[1];
	int rc = vm_ctl_recv(sock, frame, &len, fds, &none, &r->err);

	if (rc == 0)
		rc = vm_ctl_decode(&m, frame, len, &r->err);
	if (rc == 0 && m.type == VM_CTL_ERROR) {
		r->err = m.err;
		rc = m.err.code;
	}
	return rc;
}

int vm_rig_launch(struct vm_rig *r, const char *program)
{
	static uint8_t bytes[VM_LAUNCH_BYTES_MAX];
	size_t len = 0;
	int pair[2], rc;

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(vm_launch_encode(bytes, sizeof(bytes), &len, &r->l, NULL), 0);
	assert_int_equal(vm_ctl_send(pair[0], bytes, len, r->fd, r->l.fds, NULL), 0);
	for (uint32_t i = 0; i < r->l.fds; i++)
		(void)close(r->fd[i]);
	r->pid = fork();
	assert_true(r->pid >= 0);
	if (r->pid == 0)
		child(program, pair[1], r->log_fd);
	(void)close(pair[1]);
	rc = report(r, pair[0]);
	(void)close(pair[0]);
	return rc;
}

int vm_rig_wait(struct vm_rig *r, bool kill_it)
{
	int status = -1;

	if (r->pid <= 0)
		return -1;
	if (kill_it)
		(void)kill(r->pid, SIGKILL);
	assert_int_equal(waitpid(r->pid, &status, 0), r->pid);
	r->pid = 0;
	return status;
}

void vm_rig_fini(struct vm_rig *r)
{
	const char *const files[] = {r->path, r->beat, r->log};

	(void)vm_rig_wait(r, true);
	for (size_t i = 0; i < 3; i++)
		(void)unlink(files[i]);
	(void)rmdir(r->dir);
}
