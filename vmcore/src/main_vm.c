/*
 * lifeboat-vm - one virtual machine. Started by the site agent, never by hand: what it is to run
 * comes as a message with descriptors on descriptor 3 (vmcore/launch.h). Then it answers on the
 * control socket it was given (docs/vm-control.md) until the machine is off.
 *
 * Privileges: started as root it needs to open /dev/kvm (runs guest code), to make a userfaultfd
 * (memory of a checkpoint that is fetched when it is touched), and to change its root directory to
 * an empty one. It runs as the uid it is told, without any of that, before it reads a foreign byte
 * and before it has a second thread, which would keep what only its first one gives up (jail.h).
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "hub.h"
#include "jail.h"
#include "kvm.h"
#include "machine.h"
#include "serve.h"
#include "uffd.h"
#include "vmcore/launch.h"

#define LAUNCH_MS 10000

static int receive(struct vm_machine *m, struct lb_err *err)
{
	uint8_t bytes[VM_LAUNCH_BYTES_MAX];
	size_t len = sizeof(bytes), fds = VM_CTL_FDS_MAX;
	struct pollfd p = {.fd = VM_LAUNCH_FD, .events = POLLIN};
	int rc;

	if (poll(&p, 1, LAUNCH_MS) != 1)
		return lb_err_set(err, LB_ETIMEDOUT, 0, "no launch message came");
	rc = vm_ctl_recv(VM_LAUNCH_FD, bytes, &len, m->fd, &fds, err);
	if (rc != 0)
		return rc;
	rc = vm_launch_decode(&m->l, bytes, len, err);
	if (rc == 0 && m->l.fds != fds)
		rc = lb_err_set(err, LB_EPROTO, 0, "%zu descriptors came, not %u", fds, m->l.fds);
	if (rc != 0) {
		for (size_t i = 0; i < fds; i++)
			(void)close(m->fd[i]);
		m->l.fds = 0;
	}
	return rc;
}

static void report(const struct vm_ctl_msg *m)
{
	uint8_t frame[VM_CTL_FRAME_MAX];
	size_t len = 0;

	if (vm_ctl_encode(frame, &len, m, NULL) == 0)
		(void)vm_ctl_send(VM_LAUNCH_FD, frame, len, NULL, 0, NULL);
	(void)close(VM_LAUNCH_FD);
}

/* What wakes the thread that serves: the hub's eventfd, and the signals that end a machine. */
struct wake {
	int kick_fd;
	int signal_fd;
};

/* No thread runs yet: all that follow block what is read from @w->signal_fd. */
static int signals(struct wake *w, struct lb_err *err)
{
	sigset_t end;

	(void)signal(SIGPIPE, SIG_IGN); /* nobody's death is ours */
	(void)signal(SIGHUP, SIG_IGN);
	(void)sigemptyset(&end);
	(void)sigaddset(&end, SIGTERM);
	(void)sigaddset(&end, SIGINT);
	(void)pthread_sigmask(SIG_BLOCK, &end, NULL);
	w->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (w->kick_fd < 0)
		return lb_err_errno(err, errno, "make an eventfd");
	w->signal_fd = signalfd(-1, &end, SFD_CLOEXEC | SFD_NONBLOCK);
	if (w->signal_fd < 0)
		return lb_err_errno(err, errno, "make a signalfd");
	return 0;
}

static int fd_of(const struct vm_machine *m, enum vm_launch_role role)
{
	int at = vm_launch_find(&m->l, role, 0);

	return at >= 0 ? m->fd[at] : -1;
}

/* What cannot be had is said by who needs it, if anybody does. */
static void open_devices(struct vm_machine *m)
{
	(void)vm_kvm_open(&m->kvm_fd, NULL);
	if (m->l.boot == VM_LAUNCH_RESTORE && m->l.restore_mode == VM_RESTORE_LAZY)
		(void)vm_uffd_open(&m->uffd, NULL);
}

static int set_up(struct vm_machine *m, struct vm_hub **hub, struct wake *w, struct lb_err *err)
{
	int rc = signals(w, err);

	if (rc == 0)
		rc = receive(m, err);
	if (rc == 0)
		rc = vm_hub_create(hub, w->kick_fd, err);
	if (rc == 0)
		rc = vm_jail_enter(m->l.uid, m->l.gid, &m->jail, err);
	if (rc == 0)
		open_devices(m);
	if (rc == 0)
		rc = vm_jail_drop(fd_of(m, VM_FD_ROOT), &m->jail, err);
	if (rc == 0)
		rc = vm_machine_build(m, *hub, err);
	if (rc == 0)
		rc = vm_jail_close(&m->jail, err);
	if (rc == 0 && !m->l.paused)
		rc = vm_machine_start(m, err);
	return rc;
}

int main(int argc, char **argv)
{
	struct vm_machine m = {.kvm_fd = -1, .uffd = -1};
	struct vm_hub *hub = NULL;
	struct wake wake = {.kick_fd = -1, .signal_fd = -1};
	struct lb_err err = {0};
	int rc;

	(void)argv;
	if (argc != 1) {
		(void)fprintf(stderr, "lifeboat-vm is started by lifeboatd\n");
		return 2;
	}
	rc = set_up(&m, &hub, &wake, &err);
	report(&(struct vm_ctl_msg){.type = rc == 0 ? VM_CTL_OK : VM_CTL_ERROR, .err = err});
	if (rc == 0) {
		const struct vm_serve_cfg cfg = {.m = &m,
						 .hub = hub,
						 .kick_fd = wake.kick_fd,
						 .listen_fd = fd_of(&m, VM_FD_LISTEN),
						 .heartbeat_fd = fd_of(&m, VM_FD_HEARTBEAT),
						 .log_fd = fd_of(&m, VM_FD_SERIAL_LOG),
						 .signal_fd = wake.signal_fd};

		lb_log(LB_LOG_INFO, "vm", "running", "vm=%s", m.l.name, "jail=%u", m.jail, NULL);
		rc = vm_serve(&cfg, &err);
	}
	if (rc != 0)
		lb_log(LB_LOG_ERROR, "vm", "ended", "code=%s", lb_err_name(rc), "err=%s", err.msg,
		       NULL);
	vm_machine_fini(&m);
	vm_hub_destroy(hub);
	lb_log(LB_LOG_INFO, "vm", "off", "vm=%s", m.l.name, NULL);
	/* not exit(): what runs at exit (a leak check) may use calls that are not allowed here */
	_exit(lb_err_exit_status(rc));
}
