/*
 * lifeboat-vm as a process, with a machine that needs no KVM: its jail, its protocol, clients that
 * are slow, wrong or gone. argv[1]: the program.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "vm_rig.h"

#define SECOND UINT64_C(1000000000)
#define WAIT   (20 * SECOND) /* nothing here takes so long: a watchdog, not a measure */

static const char *program;
static struct vm_rig rig;
static struct vm_ctl_msg answer, got;

static void start(void)
{
	vm_rig_init(&rig);
	vm_rig_fd(&rig, VM_FD_BIOS, 0, open("/dev/null", O_RDONLY | O_CLOEXEC));
	if (vm_rig_launch(&rig, program) != 0)
		fail_msg("%s", rig.err.msg);
}

static struct vm_ctl *open_ctl(void)
{
	struct vm_ctl *c = NULL;
	struct lb_err err = {0};

	if (vm_ctl_open(&c, rig.path, WAIT, &err) != 0)
		fail_msg("%s", err.msg);
	return c;
}

static int ask(struct vm_ctl *c, enum vm_ctl_type type, uint64_t n, enum vm_ctl_type want)
{
	const struct vm_ctl_msg rq = {.type = type, .n = n, .off = n};

	return vm_ctl_call(c, &rq, want, &answer, NULL, NULL);
}

static void type_text(struct vm_ctl *c, const char *text)
{
	const struct vm_ctl_msg m = {.type = VM_CTL_SERIAL_IN,
				     .bytes = (const uint8_t *)text,
				     .len = (uint32_t)strlen(text)};

	assert_int_equal(vm_ctl_post(c, &m, NULL), 0);
}

/* Serial output until @text was seen; of what came before, the end is kept to show. */
static void expect(struct vm_ctl *c, const char *text)
{
	static char seen[2 * VM_CTL_DATA_MAX + 1];
	size_t n = 0;

	for (;;) {
		if (vm_ctl_next(c, WAIT, &got, NULL) != 0)
			fail_msg("no \"%s\" in \"%.*s\"", text, (int)n, seen);
		if (got.type != VM_CTL_SERIAL_OUT)
			continue;
		if (n > VM_CTL_DATA_MAX) {
			memmove(seen, seen + n - VM_CTL_DATA_MAX, VM_CTL_DATA_MAX);
			n = VM_CTL_DATA_MAX;
		}
		memcpy(seen + n, got.bytes, got.len);
		n += got.len;
		seen[n] = '\0';
		if (strstr(seen, text) != NULL)
			return;
	}
}

static void test_hello_and_state(void **state)
{
	struct vm_ctl *c;

	(void)state;
	start();
	c = open_ctl();
	assert_string_equal(vm_ctl_info(c)->name, "db01");
	assert_int_equal(vm_ctl_info(c)->pid, rig.pid);
	assert_int_equal(vm_ctl_info(c)->state, VM_RUNNING);
	assert_true(vm_ctl_info(c)->jail & VM_JAIL_SECCOMP);
	assert_true(vm_ctl_info(c)->jail & VM_JAIL_NO_NEW_PRIVS);
	assert_int_equal(ask(c, VM_CTL_PAUSE, SECOND, VM_CTL_OK), 0);
	assert_int_equal(ask(c, VM_CTL_STATE, 0, VM_CTL_INFO), 0);
	assert_int_equal(answer.info.state, VM_PAUSED);
	assert_int_equal(ask(c, VM_CTL_PAUSE, SECOND, VM_CTL_OK), 0); /* again: nothing to do */
	assert_int_equal(ask(c, VM_CTL_RESUME, 0, VM_CTL_OK), 0);
	assert_int_equal(ask(c, VM_CTL_GET_STATS, 0, VM_CTL_STATS), 0);
	assert_int_equal(ask(c, VM_CTL_RESET, 0, VM_CTL_OK), 0);
	assert_int_equal(ask(c, VM_CTL_STOP, 0, VM_CTL_OK), 0);
	vm_ctl_close(c);
	assert_int_equal(vm_rig_wait(&rig, false), 0);
	vm_rig_fini(&rig);
}

static void test_console(void **state)
{
	struct vm_ctl *c;

	(void)state;
	start();
	c = open_ctl();
	assert_int_equal(ask(c, VM_CTL_SERIAL_ATTACH, 1000, VM_CTL_OK), 0);
	expect(c, "hello\n"); /* said before anybody came */
	type_text(c, "abc");
	expect(c, "ABC");
	type_text(c, "0123456789012345678901234567890123456789012345678901234567890123456789z");
	expect(c, "9Z"); /* more than its UART takes at once */
	vm_ctl_close(c);
	vm_rig_fini(&rig);
}

static void test_two_consoles_and_replay(void **state)
{
	struct vm_ctl *a, *b;

	(void)state;
	start();
	a = open_ctl();
	b = open_ctl();
	assert_int_equal(ask(a, VM_CTL_SERIAL_ATTACH, 0, VM_CTL_OK), 0);
	assert_int_equal(ask(b, VM_CTL_SERIAL_ATTACH, 0, VM_CTL_OK), 0);
	type_text(a, "x");
	expect(a, "X");
	expect(b, "X");
	vm_ctl_close(b);
	b = open_ctl();
	assert_int_equal(ask(b, VM_CTL_SERIAL_ATTACH, 1, VM_CTL_OK), 0);
	expect(b, "X");
	vm_ctl_close(a);
	vm_ctl_close(b);
	vm_rig_fini(&rig);
}

/* A client that does not read: output is lost to it, it is told how much, nobody else waits. */
static void test_a_slow_console(void **state)
{
	struct vm_ctl *slow, *c;
	uint64_t lost = 0, bytes = 0;

	(void)state;
	start();
	slow = open_ctl();
	c = open_ctl();
	assert_int_equal(ask(slow, VM_CTL_SERIAL_ATTACH, 0, VM_CTL_OK), 0);
	for (int i = 0; i < 40; i++) {
		type_text(c, "L");
		type_text(c, "q");
	}
	assert_int_equal(ask(c, VM_CTL_SERIAL_ATTACH, 0, VM_CTL_OK), 0);
	type_text(c, "end");
	expect(c, "END");
	while (vm_ctl_next(slow, WAIT, &got, NULL) == 0) {
		lost += got.n;
		bytes += got.len;
		if (got.len >= 3 && memcmp(got.bytes + got.len - 1, "D", 1) == 0)
			break;
	}
	assert_true(lost > 0);
	assert_true(bytes + lost >= 40 * 69999);
	vm_ctl_close(slow);
	vm_ctl_close(c);
	vm_rig_fini(&rig);
}

static void test_screen(void **state)
{
	const struct vm_ctl_msg pixels = {.type = VM_CTL_SCREEN_PIXELS};
	struct vm_ctl *c;
	uint8_t px[32];
	int fds[3];

	(void)state;
	start();
	c = open_ctl();
	assert_int_equal(ask(c, VM_CTL_SCREEN_TEXT, 0, VM_CTL_TEXT), 0);
	assert_int_equal(answer.len, 12);
	assert_memory_equal(answer.bytes, "fake screen\n", 12);
	assert_int_equal(vm_ctl_call(c, &pixels, VM_CTL_PIXELS, &answer, fds, NULL), 0);
	assert_int_equal(answer.width, 8);
	assert_int_equal(answer.palette[2][0], 34);
	assert_int_equal(pread(fds[0], px, sizeof(px), 0), sizeof(px));
	assert_int_equal(px[31], 15);
	(void)close(fds[0]);
	vm_ctl_close(c);
	vm_rig_fini(&rig);
}

static uint64_t counter_of(int ram_fd)
{
	uint64_t n = 0;

	assert_int_equal(pread(ram_fd, &n, sizeof(n), 0), sizeof(n));
	return n;
}

static void test_cut(void **state)
{
	const struct vm_ctl_msg take = {.type = VM_CTL_CUT_TAKE};
	const struct vm_ctl_msg end = {.type = VM_CTL_CUT_END, .n = 1, .base = {{3, 4}}};
	struct vm_ctl *c, *other;
	uint8_t saved[16];
	uint64_t in_ram, in_state;
	int fds[3];

	(void)state;
	start();
	c = open_ctl();
	other = open_ctl();
	assert_int_equal(ask(c, VM_CTL_CUT_TAKE, 0, VM_CTL_CUT), LB_ETIMEDOUT); /* not held */
	assert_int_equal(ask(c, VM_CTL_CUT_PREPARE, 0, VM_CTL_OK), 0);
	assert_int_equal(ask(c, VM_CTL_CUT_HOLD, 9 * SECOND, VM_CTL_OK), 0);
	assert_int_equal(ask(other, VM_CTL_CUT_HOLD, SECOND, VM_CTL_OK), LB_EBUSY);
	assert_int_equal(ask(other, VM_CTL_PAUSE, SECOND, VM_CTL_OK), LB_EBUSY);
	assert_int_equal(ask(other, VM_CTL_CUT_END, 0, VM_CTL_OK), LB_EBUSY);
	assert_int_equal(vm_ctl_call(c, &take, VM_CTL_CUT, &answer, fds, NULL), 0);
	assert_int_equal(answer.cut.seq, 1);
	assert_int_equal(answer.cut.state_bytes, sizeof(saved));
	assert_int_equal(pread(fds[0], saved, sizeof(saved), 0), sizeof(saved));
	memcpy(&in_state, saved + 4, sizeof(in_state));
	in_ram = counter_of(fds[1]);
	assert_true(in_ram == in_state); /* both of one instant */
	assert_true(fds[2] == -1);
	assert_true(lb_hash_is_zero(&answer.cut.base)); /* nothing was ever kept */
	assert_int_equal(ask(c, VM_CTL_CUT_RESUME, 0, VM_CTL_NUMBER), 0);
	assert_int_equal(vm_ctl_call(c, &end, VM_CTL_OK, &answer, NULL, NULL), 0);
	assert_int_equal(ask(c, VM_CTL_CUT_END, 1, VM_CTL_OK), 0); /* none open: nothing */
	(void)close(fds[0]);
	(void)close(fds[1]);
	/* another client hears as what the last one kept it; an abandoned cut changes nothing */
	for (int i = 0; i < 2; i++) {
		assert_int_equal(ask(other, VM_CTL_CUT_HOLD, SECOND, VM_CTL_OK), 0);
		assert_int_equal(vm_ctl_call(other, &take, VM_CTL_CUT, &answer, fds, NULL), 0);
		assert_true(lb_hash_equal(&answer.cut.base, &end.base));
		assert_int_equal(ask(other, VM_CTL_CUT_RESUME, 0, VM_CTL_NUMBER), 0);
		assert_int_equal(ask(other, VM_CTL_CUT_END, 0, VM_CTL_OK), 0);
		if (i == 0) {
			(void)close(fds[0]);
			(void)close(fds[1]);
		}
	}
	(void)close(fds[0]);
	(void)close(fds[1]);
	vm_ctl_close(c);
	vm_ctl_close(other);
	vm_rig_fini(&rig);
}

/* The machine is only free again for another cut once the first holder's is given up. */
static void wait_until_free(struct vm_ctl *c)
{
	int rc = LB_EBUSY;

	for (int i = 0; i < 10000 && rc == LB_EBUSY; i++) {
		rc = ask(c, VM_CTL_CUT_HOLD, 5 * SECOND, VM_CTL_OK);
		if (rc == LB_EBUSY)
			(void)poll(NULL, 0, 2);
	}
	assert_int_equal(rc, 0);
	assert_int_equal(ask(c, VM_CTL_CUT_RESUME, 0, VM_CTL_NUMBER), 0);
}

/* One message: the cut is open, of one instant, and the guest has gone on already. */
static void test_cut_alone(void **state)
{
	const struct vm_ctl_msg alone = {.type = VM_CTL_CUT_ALONE, .n = 9 * SECOND};
	struct vm_ctl *c, *other;
	uint64_t in_state;
	int fds[3];

	(void)state;
	start();
	c = open_ctl();
	other = open_ctl();
	assert_int_equal(vm_ctl_call(c, &alone, VM_CTL_CUT, &answer, fds, NULL), 0);
	assert_int_equal(answer.cut.seq, 1);
	assert_int_equal(pread(fds[0], &in_state, sizeof(in_state), 4), sizeof(in_state));
	while (counter_of(fds[1]) == in_state) /* the image is memory itself here: it runs */
		(void)poll(NULL, 0, 1);
	assert_int_equal(ask(other, VM_CTL_SERIAL_ATTACH, 0, VM_CTL_OK), 0);
	type_text(other, "x");
	expect(other, "X");
	assert_int_equal(ask(other, VM_CTL_CUT_ALONE, SECOND, VM_CTL_CUT), LB_EBUSY);
	assert_int_equal(ask(c, VM_CTL_CUT_RESUME, 0, VM_CTL_NUMBER), LB_ETIMEDOUT);
	assert_int_equal(ask(c, VM_CTL_CUT_CHECK, 0, VM_CTL_OK), 0);
	assert_int_equal(ask(c, VM_CTL_CUT_END, 1, VM_CTL_OK), 0);
	(void)close(fds[0]);
	(void)close(fds[1]);
	/* who took it dies: the next one may */
	assert_int_equal(vm_ctl_call(c, &alone, VM_CTL_CUT, &answer, fds, NULL), 0);
	assert_int_equal(answer.cut.seq, 2);
	(void)close(fds[0]);
	(void)close(fds[1]);
	vm_ctl_close(c);
	wait_until_free(other);
	vm_ctl_close(other);
	vm_rig_fini(&rig);
}

static int file_of(const char *name, off_t bytes)
{
	char path[96];
	int fd;

	(void)snprintf(path, sizeof(path), "%s/%s", rig.dir, name);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(ftruncate(fd, bytes), 0);
	assert_int_equal(unlink(path), 0);
	return fd;
}

static void start_cuttable(void)
{
	vm_rig_init(&rig);
	vm_rig_fd(&rig, VM_FD_BIOS, 0, open("/dev/null", O_RDONLY | O_CLOEXEC));
	rig.l.disks = 1;
	rig.l.disk[0] =
		(struct vm_launch_disk){.bus = VM_DISK_VIRTIO, .size_bytes = 65536, .label = "vda"};
	vm_rig_fd(&rig, VM_FD_DISK_DATA, 0, file_of("vda", 65536));
	vm_rig_fd(&rig, VM_FD_DISK_SIDE, 0, file_of("side", 65536));
	if (vm_rig_launch(&rig, program) != 0)
		fail_msg("%s", rig.err.msg);
}

/* A cut that fails when the disks are marked already leaves no open cut of them behind: the next
 * one works. */
static void test_a_cut_that_fails_late(void **state)
{
	const struct vm_ctl_msg alone = {.type = VM_CTL_CUT_ALONE, .n = 9 * SECOND};
	int fds[3] = {-1, -1, -1};
	struct vm_ctl *c;

	(void)state;
	start_cuttable();
	c = open_ctl();
	assert_int_equal(ask(c, VM_CTL_SERIAL_ATTACH, 0, VM_CTL_OK), 0);
	type_text(c, "X");
	expect(c, "next cut fails");
	assert_int_equal(vm_ctl_call(c, &alone, VM_CTL_CUT, &answer, fds, NULL), LB_EIO);
	assert_int_equal(vm_ctl_call(c, &alone, VM_CTL_CUT, &answer, fds, NULL), 0);
	assert_int_equal(answer.cut.disk_bytes[0], 65536);
	(void)close(fds[0]);
	(void)close(fds[1]);
	vm_ctl_close(c);
	vm_rig_fini(&rig);
}

/* A disk may take for ever to answer; the guest does not stand still for so long. */
static void test_a_cut_is_read_when_the_guest_runs(void **state)
{
	const struct vm_ctl_msg take = {.type = VM_CTL_CUT_TAKE};
	const struct vm_ctl_msg read_it = {.type = VM_CTL_CUT_READ, .len = 4096};
	int fds[3] = {-1, -1, -1};
	struct vm_ctl *c;

	(void)state;
	start_cuttable();
	c = open_ctl();
	assert_int_equal(ask(c, VM_CTL_CUT_HOLD, 9 * SECOND, VM_CTL_OK), 0);
	assert_int_equal(vm_ctl_call(c, &take, VM_CTL_CUT, &answer, fds, NULL), 0);
	assert_int_equal(vm_ctl_call(c, &read_it, VM_CTL_DATA, &answer, NULL, NULL), LB_ETIMEDOUT);
	assert_int_equal(ask(c, VM_CTL_CUT_CHANGED, 0, VM_CTL_MAP), LB_ETIMEDOUT);
	assert_int_equal(ask(c, VM_CTL_CUT_RESUME, 0, VM_CTL_NUMBER), 0);
	assert_int_equal(vm_ctl_call(c, &read_it, VM_CTL_DATA, &answer, NULL, NULL), 0);
	assert_int_equal(ask(c, VM_CTL_CUT_CHANGED, 0, VM_CTL_MAP), 0);
	assert_int_equal(ask(c, VM_CTL_CUT_END, 1, VM_CTL_OK), 0);
	(void)close(fds[0]);
	(void)close(fds[1]);
	vm_ctl_close(c);
	vm_rig_fini(&rig);
}

static void test_the_holder_of_a_cut_dies(void **state)
{
	struct vm_ctl *c, *other;

	(void)state;
	start();
	c = open_ctl();
	other = open_ctl();
	assert_int_equal(ask(c, VM_CTL_CUT_HOLD, 9 * SECOND, VM_CTL_OK), 0);
	vm_ctl_close(c);
	wait_until_free(other);
	assert_int_equal(ask(other, VM_CTL_SERIAL_ATTACH, 0, VM_CTL_OK), 0);
	type_text(other, "b");
	expect(other, "B"); /* it runs */
	vm_ctl_close(other);
	vm_rig_fini(&rig);
}

static void test_the_holder_of_a_cut_sleeps(void **state)
{
	struct vm_ctl *c, *other;

	(void)state;
	start();
	c = open_ctl();
	other = open_ctl();
	assert_int_equal(ask(c, VM_CTL_CUT_HOLD, SECOND / 100, VM_CTL_OK), 0);
	wait_until_free(other);
	assert_int_equal(ask(c, VM_CTL_CUT_TAKE, 0, VM_CTL_CUT), LB_ETIMEDOUT);
	vm_ctl_close(c);
	vm_ctl_close(other);
	vm_rig_fini(&rig);
}

/* COMMIT: what a card sends once its state is saved belongs to the next cut. A machine that goes on
 * from this one sends it again, so it must not leave with this one's receipt. */
static void test_output_belongs_to_the_cut_it_was_saved_in(void **state)
{
	const struct vm_ctl_msg take = {.type = VM_CTL_CUT_TAKE};
	int fds[3] = {-1, -1, -1};
	struct vm_ctl *c;

	(void)state;
	vm_rig_init(&rig);
	vm_rig_fd(&rig, VM_FD_BIOS, 0, open("/dev/null", O_RDONLY | O_CLOEXEC));
	rig.l.nics = 1;
	rig.l.nic[0].mac[0] = 2;
	rig.l.commit_bytes = 4096;
	if (vm_rig_launch(&rig, program) != 0)
		fail_msg("%s", rig.err.msg);
	c = open_ctl();
	assert_int_equal(ask(c, VM_CTL_SERIAL_ATTACH, 0, VM_CTL_OK), 0);
	type_text(c, "N");
	expect(c, "sent");
	assert_int_equal(ask(c, VM_CTL_GET_STATS, 0, VM_CTL_STATS), 0);
	assert_int_equal(answer.stats.held_bytes, 1);
	assert_int_equal(ask(c, VM_CTL_CUT_HOLD, SECOND, VM_CTL_OK), 0);
	assert_int_equal(vm_ctl_call(c, &take, VM_CTL_CUT, &answer, fds, NULL), 0);
	assert_int_equal(answer.cut.seq, 1);
	assert_int_equal(ask(c, VM_CTL_CUT_RESUME, 0, VM_CTL_NUMBER), 0);
	assert_int_equal(ask(c, VM_CTL_CUT_END, 1, VM_CTL_OK), 0);
	assert_int_equal(ask(c, VM_CTL_GET_STATS, 0, VM_CTL_STATS), 0);
	assert_int_equal(answer.stats.held_bytes, 2);
	assert_int_equal(ask(c, VM_CTL_OUTPUT_ACK, 1, VM_CTL_OK), 0);
	assert_int_equal(ask(c, VM_CTL_GET_STATS, 0, VM_CTL_STATS), 0);
	assert_int_equal(answer.stats.held_bytes, 1);
	(void)close(fds[0]);
	(void)close(fds[1]);
	vm_ctl_close(c);
	vm_rig_fini(&rig);
}

static void test_events_and_power_off(void **state)
{
	struct vm_ctl *ear, *c;

	(void)state;
	start();
	ear = open_ctl(); /* its own: a call drops what comes before its answer */
	c = open_ctl();
	assert_int_equal(ask(ear, VM_CTL_LISTEN, 0, VM_CTL_OK), 0);
	assert_int_equal(ask(c, VM_CTL_POWER_BUTTON, 0, VM_CTL_OK), 0);
	assert_int_equal(vm_ctl_next(ear, WAIT, &got, NULL), 0);
	assert_int_equal(got.type, VM_CTL_EVENT);
	assert_int_equal(got.event.type, VM_EVENT_POWEROFF);
	assert_int_equal(vm_ctl_next(ear, WAIT, &got, NULL), LB_ECLOSED);
	vm_ctl_close(ear);
	vm_ctl_close(c);
	assert_int_equal(vm_rig_wait(&rig, false), 0);
	vm_rig_fini(&rig);
}

/* A crashed guest stays to be looked at. */
static void test_fault(void **state)
{
	struct vm_ctl *c;

	(void)state;
	start();
	c = open_ctl();
	assert_int_equal(ask(c, VM_CTL_LISTEN, 0, VM_CTL_OK), 0);
	type_text(c, "F");
	assert_int_equal(vm_ctl_next(c, WAIT, &got, NULL), 0);
	assert_int_equal(got.event.type, VM_EVENT_FAULT);
	assert_string_equal(got.event.text, "triple fault");
	assert_int_equal(ask(c, VM_CTL_STATE, 0, VM_CTL_INFO), 0);
	assert_int_equal(answer.info.state, VM_CRASHED);
	assert_string_equal(answer.info.last, "fault: triple fault");
	assert_int_equal(ask(c, VM_CTL_SCREEN_TEXT, 0, VM_CTL_TEXT), 0);
	vm_ctl_close(c);
	vm_rig_fini(&rig);
}

static void test_sigterm(void **state)
{
	(void)state;
	start();
	assert_int_equal(kill(rig.pid, SIGTERM), 0);
	assert_int_equal(vm_rig_wait(&rig, false), 0);
	vm_rig_fini(&rig);
}

static void test_heartbeat(void **state)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	struct pollfd p = {.events = POLLIN};
	struct vm_ctl *c;
	char buf[16];

	(void)state;
	start();
	c = open_ctl();
	p.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	(void)snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", rig.beat);
	assert_int_equal(connect(p.fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	for (int i = 0; i < 10000 && poll(&p, 1, 2) == 0; i++)
		type_text(c, "P"); /* until it was accepted: earlier beats do not count */
	assert_true(recv(p.fd, buf, sizeof(buf), 0) >= 5);
	assert_memory_equal(buf, "beat\n", 5);
	(void)close(p.fd);
	vm_ctl_close(c);
	vm_rig_fini(&rig);
}

static void test_serial_log_is_bounded(void **state)
{
	struct vm_ctl *c;
	struct stat st;

	(void)state;
	start();
	c = open_ctl();
	assert_int_equal(ask(c, VM_CTL_SERIAL_ATTACH, 0, VM_CTL_OK), 0);
	for (int i = 0; i < 100; i++) { /* 7 MB */
		type_text(c, "L");
		expect(c, "x\n");
	}
	type_text(c, "O");
	vm_ctl_close(c);
	assert_int_equal(vm_rig_wait(&rig, false), 0);
	assert_int_equal(stat(rig.log, &st), 0);
	assert_true(st.st_size > 1 << 20);
	assert_true(st.st_size <= 4 << 20);
	vm_rig_fini(&rig);
}

/* ---- nonsense ---- */

static int raw(void)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	(void)snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", rig.path);
	assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	return fd;
}

static void expect_dropped(int fd)
{
	char buf[256];

	assert_true(recv(fd, buf, sizeof(buf), 0) <= 0);
	(void)close(fd);
}

static unsigned count_lines(int fd, const char *with)
{
	static char text[1 << 20];
	ssize_t len = pread(fd, text, sizeof(text) - 1, 0);
	unsigned n = 0;

	assert_true(len >= 0 && len < (ssize_t)sizeof(text) - 1);
	text[len] = '\0';
	for (const char *p = text; (p = strstr(p, with)) != NULL; p++)
		n++;
	return n;
}

/* Nor does one that resets itself again and again fill the disk with what is said of it. */
static void test_event_log_is_bounded(void **state)
{
	int fd = memfd_create("log", MFD_CLOEXEC);
	struct vm_ctl *c;

	(void)state;
	vm_rig_init(&rig);
	rig.log_fd = fd;
	vm_rig_fd(&rig, VM_FD_BIOS, 0, open("/dev/null", O_RDONLY | O_CLOEXEC));
	if (vm_rig_launch(&rig, program) != 0)
		fail_msg("%s", rig.err.msg);
	c = open_ctl();
	for (int i = 0; i < 500; i++)
		assert_int_equal(ask(c, VM_CTL_RESET, 0, VM_CTL_OK), 0);
	assert_int_equal(ask(c, VM_CTL_POWER_BUTTON, 0, VM_CTL_OK), 0);
	vm_ctl_close(c);
	assert_int_equal(vm_rig_wait(&rig, false), 0);
	assert_in_range(count_lines(fd, "event=reset"), 1, 200);
	assert_int_equal(count_lines(fd, "event=poweroff"), 1);
	(void)close(fd);
	vm_rig_fini(&rig);
}

static void test_nonsense_from_a_client(void **state)
{
	static char big[100000];
	uint8_t frame[VM_CTL_FRAME_MAX];
	struct vm_ctl_msg m = {.type = VM_CTL_PAUSE, .tag = 1};
	struct vm_ctl *c;
	size_t len = 0;
	int fd, null = open("/dev/null", O_RDONLY | O_CLOEXEC);

	(void)state;
	start();
	fd = raw();
	assert_int_equal(send(fd, "GET / HTTP/1.0\r\n\r\n", 18, 0), 18);
	expect_dropped(fd);
	fd = raw();
	assert_int_equal(send(fd, big, sizeof(big), 0), sizeof(big));
	expect_dropped(fd);
	fd = raw(); /* no hello */
	assert_int_equal(vm_ctl_encode(frame, &len, &m, NULL), 0);
	assert_int_equal(send(fd, frame, len, 0), len);
	expect_dropped(fd);
	fd = raw(); /* an answer is no request */
	m = (struct vm_ctl_msg){.type = VM_CTL_OK, .tag = 1};
	assert_int_equal(vm_ctl_encode(frame, &len, &m, NULL), 0);
	assert_int_equal(send(fd, frame, len, 0), len);
	expect_dropped(fd);
	fd = raw(); /* descriptors where none belong */
	m = (struct vm_ctl_msg){.type = VM_CTL_HELLO, .tag = 1, .version = 1};
	assert_int_equal(vm_ctl_encode(frame, &len, &m, NULL), 0);
	assert_int_equal(vm_ctl_send(fd, frame, len, &null, 1, NULL), 0);
	expect_dropped(fd);
	(void)close(null);
	c = open_ctl(); /* nobody else was disturbed */
	assert_int_equal(vm_ctl_info(c)->state, VM_RUNNING);
	vm_ctl_close(c);
	vm_rig_fini(&rig);
}

static void test_a_request_of_a_newer_client(void **state)
{
	uint8_t frame[VM_CTL_FRAME_MAX];
	struct vm_ctl_msg m = {.type = VM_CTL_HELLO, .tag = 1, .version = 9};
	size_t len = 0;
	int fd, got_fds[1];
	size_t none = 0;

	(void)state;
	start();
	fd = raw();
	assert_int_equal(vm_ctl_encode(frame, &len, &m, NULL), 0);
	assert_int_equal(send(fd, frame, len, 0), len);
	len = sizeof(frame);
	assert_int_equal(vm_ctl_recv(fd, frame, &len, got_fds, &none, NULL), 0);
	assert_int_equal(vm_ctl_decode(&got, frame, len, NULL), 0);
	assert_int_equal(got.info.version, VM_CTL_VERSION);
	m.tag = 2;
	assert_int_equal(vm_ctl_encode(frame, &len, &m, NULL), 0);
	frame[4] = 99; /* type 99 */
	assert_int_equal(send(fd, frame, len, 0), len);
	len = sizeof(frame);
	assert_int_equal(vm_ctl_recv(fd, frame, &len, got_fds, &none, NULL), 0);
	assert_int_equal(vm_ctl_decode(&got, frame, len, NULL), 0);
	assert_int_equal(got.type, VM_CTL_ERROR);
	assert_int_equal(got.tag, 2);
	assert_int_equal(got.err.code, LB_EVERSION);
	(void)close(fd);
	vm_rig_fini(&rig);
}

static void test_more_clients_than_places(void **state)
{
	struct vm_ctl *c[16], *more = NULL;

	(void)state;
	start();
	for (int i = 0; i < 16; i++)
		c[i] = open_ctl();
	assert_int_equal(vm_ctl_open(&more, rig.path, WAIT, NULL), LB_ECLOSED);
	for (int i = 0; i < 16; i++)
		vm_ctl_close(c[i]);
	for (int i = 0; i < 1000 && vm_ctl_open(&more, rig.path, WAIT, NULL) != 0; i++)
		(void)poll(NULL, 0, 2); /* places get free as it notices */
	assert_non_null(more);
	vm_ctl_close(more);
	vm_rig_fini(&rig);
}

/* The machine's side is hostile: answers that are none. */
static void test_nonsense_from_a_machine(void **state)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	char dir[] = "/tmp/vmfake.XXXXXX";
	struct vm_ctl *c = NULL;
	pid_t pid;
	int fd;

	(void)state;
	assert_non_null(mkdtemp(dir));
	(void)snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/s", dir);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	assert_int_equal(listen(fd, 4), 0);
	pid = fork();
	if (pid == 0) {
		uint8_t frame[64];
		int a = accept(fd, NULL, NULL);

		(void)recv(a, frame, sizeof(frame), 0);
		(void)send(a, "nonsense", 8, 0);
		a = accept(fd, NULL, NULL); /* the second one is never answered */
		(void)recv(a, frame, sizeof(frame), 0);
		(void)pause();
		_exit(0);
	}
	assert_int_equal(vm_ctl_open(&c, sa.sun_path, WAIT, NULL), LB_EPROTO);
	assert_int_equal(vm_ctl_open(&c, sa.sun_path, SECOND / 50, NULL), LB_ETIMEDOUT);
	(void)kill(pid, SIGKILL);
	(void)waitpid(pid, NULL, 0);
	(void)close(fd);
	assert_int_equal(vm_ctl_open(&c, sa.sun_path, WAIT, NULL), LB_ECLOSED);
	(void)unlink(sa.sun_path);
	assert_int_equal(vm_ctl_open(&c, sa.sun_path, WAIT, NULL), LB_ENOTFOUND);
	(void)rmdir(dir);
}

/* ---- start ---- */

static void test_a_killed_machine(void **state)
{
	struct vm_ctl *c;

	(void)state;
	start();
	c = open_ctl();
	(void)vm_rig_wait(&rig, true);
	assert_int_equal(ask(c, VM_CTL_STATE, 0, VM_CTL_INFO), LB_ECLOSED);
	vm_ctl_close(c);
	vm_rig_fini(&rig);
}

static void test_wrong_launches(void **state)
{
	int fd;

	(void)state;
	vm_rig_init(&rig); /* no firmware: refused before anything is built */
	rig.l.fds = 0;
	for (uint32_t i = 0; i < 3; i++)
		(void)close(rig.fd[i]);
	assert_int_equal(vm_rig_launch(&rig, program), LB_EINPUT);
	assert_true(WIFEXITED(vm_rig_wait(&rig, false)));
	vm_rig_fini(&rig);

	vm_rig_init(&rig); /* a disk that is no file */
	vm_rig_fd(&rig, VM_FD_BIOS, 0, open("/dev/null", O_RDONLY | O_CLOEXEC));
	rig.l.disks = 1;
	rig.l.disk[0] =
		(struct vm_launch_disk){.bus = VM_DISK_VIRTIO, .size_bytes = 4096, .label = "vda"};
	vm_rig_fd(&rig, VM_FD_DISK_DATA, 0, open("/dev/null", O_RDWR | O_CLOEXEC));
	assert_int_equal(vm_rig_launch(&rig, program), LB_EINPUT);
	assert_non_null(strstr(rig.err.msg, "vda"));
	(void)vm_rig_wait(&rig, false);
	vm_rig_fini(&rig);

	vm_rig_init(&rig); /* a checkpoint of something else */
	fd = memfd_create("state", MFD_CLOEXEC);
	assert_int_equal(write(fd, "garbage", 7), 7);
	rig.l.boot = VM_LAUNCH_RESTORE;
	vm_rig_fd(&rig, VM_FD_STATE, 0, fd);
	vm_rig_fd(&rig, VM_FD_RAM, 0, open("/dev/null", O_RDONLY | O_CLOEXEC));
	assert_int_equal(vm_rig_launch(&rig, program), LB_ECORRUPT);
	(void)vm_rig_wait(&rig, false);
	vm_rig_fini(&rig);
}

/* As root it becomes somebody else, sees no file, and still serves. */
/* What /proc says of one thread. */
static void check_thread(const char *task)
{
	char path[64], text[4096];
	int fd;
	ssize_t n;

	(void)snprintf(path, sizeof(path), "/proc/%d/task/%.20s/status", (int)rig.pid, task);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	n = read(fd, text, sizeof(text) - 1);
	assert_true(n > 0);
	text[n] = '\0';
	(void)close(fd);
	assert_non_null(strstr(text, "Uid:\t65534\t65534\t65534\t65534"));
	assert_non_null(strstr(text, "Groups:\t \n"));
	if (strstr(text, "CapPrm:\t0000000000000000") == NULL ||
	    strstr(text, "CapEff:\t0000000000000000") == NULL)
		fail_msg("thread %s: %s", task, strstr(text, "CapInh"));
	assert_non_null(strstr(text, "NoNewPrivs:\t1"));
	assert_non_null(strstr(text, "Seccomp:\t2"));
}

static unsigned check_threads(void)
{
	const struct dirent *e;
	unsigned n = 0;
	char path[64];
	DIR *d;

	(void)snprintf(path, sizeof(path), "/proc/%d/task", (int)rig.pid);
	d = opendir(path);
	assert_non_null(d);
	while ((e = readdir(d)) != NULL) {
		if (e->d_name[0] == '.')
			continue;
		check_thread(e->d_name);
		n++;
	}
	(void)closedir(d);
	return n;
}

/* All its threads: those of devices run before the jail is closed. */
static void test_jail_of_root(void **state)
{
	const uint32_t all = VM_JAIL_NO_NEW_PRIVS | VM_JAIL_UID | VM_JAIL_CHROOT | VM_JAIL_SECCOMP;
	char root[80];
	struct vm_ctl *c;

	(void)state;
	if (geteuid() != 0)
		skip();
	vm_rig_init(&rig);
	(void)snprintf(root, sizeof(root), "%s/empty", rig.dir);
	assert_int_equal(mkdir(root, 0500), 0);
	vm_rig_fd(&rig, VM_FD_BIOS, 0, open("/dev/null", O_RDONLY | O_CLOEXEC));
	vm_rig_fd(&rig, VM_FD_ROOT, 0, open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	rig.l.uid = rig.l.gid = 65534;
	if (vm_rig_launch(&rig, program) != 0)
		fail_msg("%s", rig.err.msg);
	c = open_ctl();
	assert_int_equal(vm_ctl_info(c)->jail & all, all);
	assert_true(check_threads() >= 3); /* the first, the worker, the guest */
	assert_int_equal(ask(c, VM_CTL_SCREEN_PIXELS, 0, VM_CTL_PIXELS), 0);
	assert_int_equal(ask(c, VM_CTL_STOP, 0, VM_CTL_OK), 0);
	vm_ctl_close(c);
	assert_int_equal(vm_rig_wait(&rig, false), 0);
	(void)rmdir(root);
	vm_rig_fini(&rig);
}

/* Its guest sees what it was told; what is no template is refused before anything runs. */
static void test_cpu_template(void **state)
{
	struct vm_ctl *c;
	int fd;

	(void)state;
	for (int good = 1; good >= 0; good--) {
		vm_rig_init(&rig);
		vm_rig_fd(&rig, VM_FD_BIOS, 0, open("/dev/null", O_RDONLY | O_CLOEXEC));
		fd = memfd_create("cpu", MFD_CLOEXEC);
		assert_int_equal(write(fd, good ? "template" : "!", good ? 8 : 1), good ? 8 : 1);
		vm_rig_fd(&rig, VM_FD_CPU, 0, fd);
		assert_int_equal(vm_rig_launch(&rig, program), good ? 0 : LB_ECORRUPT);
		if (good) {
			c = open_ctl();
			assert_int_equal(ask(c, VM_CTL_SERIAL_ATTACH, 100, VM_CTL_OK), 0);
			expect(c, "cpu of 8 leaves");
			vm_ctl_close(c);
		}
		vm_rig_fini(&rig);
	}
}

/* A failed test leaves its machine, which lost the signal of its parent's death with its uid. */
static int end_rig(void **state)
{
	(void)state;
	(void)vm_rig_wait(&rig, true);
	return 0;
}

static int make_start(void **state)
{
	(void)state;
	(void)alarm(50); /* watchdog of the whole test */
	return 0;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hello_and_state),
		cmocka_unit_test(test_console),
		cmocka_unit_test(test_two_consoles_and_replay),
		cmocka_unit_test(test_a_slow_console),
		cmocka_unit_test(test_screen),
		cmocka_unit_test(test_cut),
		cmocka_unit_test(test_cut_alone),
		cmocka_unit_test(test_a_cut_that_fails_late),
		cmocka_unit_test(test_a_cut_is_read_when_the_guest_runs),
		cmocka_unit_test(test_the_holder_of_a_cut_dies),
		cmocka_unit_test(test_the_holder_of_a_cut_sleeps),
		cmocka_unit_test(test_output_belongs_to_the_cut_it_was_saved_in),
		cmocka_unit_test(test_events_and_power_off),
		cmocka_unit_test(test_fault),
		cmocka_unit_test(test_sigterm),
		cmocka_unit_test(test_heartbeat),
		cmocka_unit_test(test_serial_log_is_bounded),
		cmocka_unit_test(test_event_log_is_bounded),
		cmocka_unit_test(test_nonsense_from_a_client),
		cmocka_unit_test(test_a_request_of_a_newer_client),
		cmocka_unit_test(test_more_clients_than_places),
		cmocka_unit_test(test_nonsense_from_a_machine),
		cmocka_unit_test(test_a_killed_machine),
		cmocka_unit_test(test_wrong_launches),
		cmocka_unit_test(test_cpu_template),
		cmocka_unit_test_teardown(test_jail_of_root, end_rig),
	};

	assert_int_equal(argc, 2);
	program = argv[1];
	(void)signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, make_start, NULL);
}
