#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "check.h"
#include "vmcore/ctl.h"
#include "vmcore/launch.h"

enum {
	MOUTHS = 8
};

static struct vm_ctl_msg out, in;

/* Through bytes and back; returns the frame's length. */
static size_t round_trip(const struct vm_ctl_msg *m, uint8_t frame[VM_CTL_FRAME_MAX])
{
	size_t len = 0;

	assert_int_equal(vm_ctl_encode(frame, &len, m, NULL), 0);
	assert_int_equal(vm_ctl_decode(&in, frame, len, NULL), 0);
	assert_int_equal(in.type, m->type);
	assert_int_equal(in.tag, m->tag);
	return len;
}

static void test_vectors(void **state)
{
	static uint8_t frame[VM_CTL_FRAME_MAX];
	size_t len;

	(void)state;
	out = (struct vm_ctl_msg){.type = VM_CTL_HELLO, .tag = 1, .version = 1};
	len = round_trip(&out, frame);
	check_hex(frame, len, "4c564d310100010001000000000000000100");
	out = (struct vm_ctl_msg){
		.type = VM_CTL_CUT_READ, .tag = 0x1234, .disk = 2, .off = 0x10000, .len = 4096};
	len = round_trip(&out, frame);
	check_hex(frame, len, "4c564d3195010100341200000000000002000000000001000000000000100000");
	out = (struct vm_ctl_msg){
		.type = VM_CTL_SERIAL_OUT, .n = 5, .bytes = (const uint8_t *)"hi\n", .len = 3};
	len = round_trip(&out, frame);
	check_hex(frame, len,
		  "4c564d31d0070100000000000000000005000000000000006869"
		  "0a");
	assert_int_equal(in.len, 3);
	assert_memory_equal(in.bytes, "hi\n", 3);
	assert_int_equal(in.n, 5);
}

static void test_info_and_cut(void **state)
{
	static uint8_t frame[VM_CTL_FRAME_MAX];

	(void)state;
	out = (struct vm_ctl_msg){.type = VM_CTL_INFO, .tag = 9};
	out.info = (struct vm_ctl_info){.version = 1,
					.name = "db01",
					.pid = 4711,
					.state = VM_PAUSED,
					.jail = VM_JAIL_SECCOMP,
					.ram_bytes = 1 << 30,
					.vcpus = 2,
					.disks = 3,
					.nics = 1,
					.restored = true,
					.last = "reset"};
	(void)round_trip(&out, frame);
	assert_string_equal(in.info.name, "db01");
	assert_int_equal(in.info.state, VM_PAUSED);
	assert_true(in.info.restored);
	assert_string_equal(in.info.last, "reset");
	out = (struct vm_ctl_msg){.type = VM_CTL_CUT, .tag = 9, .fds = 3};
	out.cut = (struct vm_ctl_cut){
		.seq = 7, .ram_bytes = 4096, .disks = 2, .disk_bytes = {1, 2}, .base = {{5}}};
	(void)round_trip(&out, frame);
	assert_int_equal(in.cut.base.b[0], 5);
	assert_int_equal(in.cut.seq, 7);
	assert_int_equal(in.cut.disk_bytes[1], 2);
	assert_int_equal(in.fds, 3);
	out = (struct vm_ctl_msg){.type = VM_CTL_CUT_END, .tag = 9, .n = 1, .base = {{6, 7}}};
	(void)round_trip(&out, frame);
	assert_true(in.n == 1 && in.base.b[0] == 6 && in.base.b[1] == 7);
	out = (struct vm_ctl_msg){.type = VM_CTL_MAP, .tag = 9, .fds = 1, .n = 512, .base = {{8}}};
	(void)round_trip(&out, frame);
	assert_true(in.n == 512 && in.fds == 1 && in.base.b[0] == 8);
}

static void test_an_error_keeps_its_code(void **state)
{
	static uint8_t frame[VM_CTL_FRAME_MAX];
	size_t len;

	(void)state;
	for (int code = -1; code > -LB_CODE_COUNT; code--) {
		out = (struct vm_ctl_msg){.type = VM_CTL_ERROR, .tag = 1};
		(void)lb_err_set(&out.err, (enum lb_code)code, 5, "disk vda");
		(void)round_trip(&out, frame);
		assert_int_equal(in.err.code, code);
		assert_int_equal(in.err.sys_errno, 5);
		assert_string_equal(in.err.msg, "disk vda: Input/output error");
	}
	len = round_trip(&out, frame);
	frame[18] = 'X'; /* first letter of the code's name: a newer build's */
	assert_int_equal(vm_ctl_decode(&in, frame, len, NULL), 0);
	assert_int_equal(in.err.code, LB_EIO);
}

/* Every frame cut short or with a byte too many, and every type with a wrong descriptor count. */
static void test_malformed(void **state)
{
	static const enum vm_ctl_type types[] = {VM_CTL_HELLO, VM_CTL_PAUSE,  VM_CTL_CUT_READ,
						 VM_CTL_INFO,  VM_CTL_STATS,  VM_CTL_CUT,
						 VM_CTL_EVENT, VM_CTL_PIXELS, VM_CTL_ERROR};
	static uint8_t frame[VM_CTL_FRAME_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		size_t len = 0;

		out = (struct vm_ctl_msg){.type = types[i], .tag = 1, .len = 1};
		out.fds = types[i] == VM_CTL_CUT ? 2 : types[i] == VM_CTL_PIXELS ? 1 : 0;
		out.width = out.height = types[i] == VM_CTL_PIXELS ? 1 : 0;
		if (types[i] == VM_CTL_ERROR)
			out.err.code = LB_EIO;
		assert_int_equal(vm_ctl_encode(frame, &len, &out, NULL), 0);
		assert_int_equal(vm_ctl_decode(&in, frame, len, NULL), 0);
		for (size_t n = 0; n < len; n++)
			assert_int_not_equal(vm_ctl_decode(&in, frame, n, NULL), 0);
		frame[len] = 0;
		assert_int_equal(vm_ctl_decode(&in, frame, len + 1, NULL), LB_EPROTO);
		frame[7] = 200;
		assert_int_equal(vm_ctl_decode(&in, frame, len, NULL), LB_EPROTO);
		frame[7] = (uint8_t)out.fds;
		frame[4] = 0xee;
		assert_int_equal(vm_ctl_decode(&in, frame, len, NULL), LB_EVERSION);
		frame[0] = 'X';
		assert_int_equal(vm_ctl_decode(&in, frame, len, NULL), LB_EPROTO);
	}
}

static void test_numbers_out_of_range(void **state)
{
	static uint8_t frame[VM_CTL_FRAME_MAX];
	size_t len = 0;

	(void)state;
	out = (struct vm_ctl_msg){
		.type = VM_CTL_CUT_READ, .tag = 1, .disk = VM_DISKS_MAX, .len = 1};
	assert_int_equal(vm_ctl_encode(frame, &len, &out, NULL), 0);
	assert_int_equal(vm_ctl_decode(&in, frame, len, NULL), LB_EPROTO);
	out.disk = 0;
	out.len = VM_CTL_DATA_MAX + 1;
	assert_int_equal(vm_ctl_encode(frame, &len, &out, NULL), 0);
	assert_int_equal(vm_ctl_decode(&in, frame, len, NULL), LB_EPROTO);
	out = (struct vm_ctl_msg){.type = VM_CTL_CUT, .tag = 1, .fds = 2};
	out.cut.disks = VM_DISKS_MAX;
	assert_int_equal(vm_ctl_encode(frame, &len, &out, NULL), 0);
	frame[16 + 49] = VM_DISKS_MAX + 1;
	assert_int_equal(vm_ctl_decode(&in, frame, len, NULL), LB_EPROTO);
	out = (struct vm_ctl_msg){.type = VM_CTL_DATA, .tag = 1, .len = VM_CTL_DATA_MAX + 1};
	assert_int_equal(vm_ctl_encode(frame, &len, &out, NULL), LB_EINVAL);
}

static int count_fds(void)
{
	int n = 0;

	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void test_descriptors_are_never_leaked(void **state)
{
	int pair[2], many[5] = {0, 0, 0, 0, 0}, got[3];
	uint8_t buf[8];
	size_t len, count;
	int before;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	before = count_fds();
	assert_int_equal(vm_ctl_send(pair[0], "abc", 3, many, 5, NULL), 0);
	len = sizeof(buf);
	count = 3;
	assert_int_equal(vm_ctl_recv(pair[1], buf, &len, got, &count, NULL), LB_EPROTO);
	assert_int_equal(count_fds(), before);
	assert_int_equal(vm_ctl_send(pair[0], "too long for it", 15, many, 1, NULL), 0);
	len = sizeof(buf);
	count = 3;
	assert_int_equal(vm_ctl_recv(pair[1], buf, &len, got, &count, NULL), LB_EPROTO);
	assert_int_equal(count_fds(), before);
	assert_int_equal(vm_ctl_send(pair[0], "abc", 3, many, 2, NULL), 0);
	len = sizeof(buf);
	count = 3;
	assert_int_equal(vm_ctl_recv(pair[1], buf, &len, got, &count, NULL), 0);
	assert_int_equal(len, 3);
	assert_int_equal(count, 2);
	assert_int_equal(fcntl(got[0], F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	(void)close(got[0]);
	(void)close(got[1]);
	(void)close(pair[0]);
	len = sizeof(buf);
	assert_int_equal(vm_ctl_recv(pair[1], buf, &len, got, &count, NULL), LB_ECLOSED);
	(void)close(pair[1]);
}

/* A client that ends without having read everything: what it said before still counts. */
static void test_last_words(void **state)
{
	int pair[2], none[1];
	size_t count = 0, len;
	uint8_t buf[8];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(vm_ctl_send(pair[1], "unread", 6, NULL, 0, NULL), 0);
	assert_int_equal(vm_ctl_send(pair[0], "last", 4, NULL, 0, NULL), 0);
	(void)close(pair[0]);
	len = sizeof(buf);
	assert_int_equal(vm_ctl_recv(pair[1], buf, &len, none, &count, NULL), 0);
	assert_memory_equal(buf, "last", 4);
	len = sizeof(buf);
	assert_int_equal(vm_ctl_recv(pair[1], buf, &len, none, &count, NULL), LB_ECLOSED);
	(void)close(pair[1]);
}

/* ---- a machine that was broken into ---- */

static void frame_send(int sock, const struct vm_ctl_msg *m)
{
	static uint8_t frame[VM_CTL_FRAME_MAX];
	size_t len = 0;

	assert_int_equal(vm_ctl_encode(frame, &len, m, NULL), 0);
	assert_int_equal(vm_ctl_send(sock, frame, len, NULL, 0, NULL), 0);
}

/* Says anything but an answer, for as long as anybody listens. */
static void *mouth(void *arg)
{
	static const struct vm_ctl_msg event = {.type = VM_CTL_EVENT,
						.event = {.type = VM_EVENT_RESET}};
	uint8_t *frame = malloc(VM_CTL_FRAME_MAX);
	const int *sock = arg;
	size_t len = 0;

	assert_non_null(frame);
	assert_int_equal(vm_ctl_encode(frame, &len, &event, NULL), 0);
	while (vm_ctl_send(*sock, frame, len, NULL, 0, NULL) == 0)
		;
	free(frame);
	return NULL;
}

/* Greets; the next request gets talk, with more mouths than the client has ears. */
static void *talker(void *arg)
{
	static uint8_t frame[VM_CTL_FRAME_MAX];
	static struct vm_ctl_msg info;
	const int *listener = arg;
	size_t len = sizeof(frame), none = 0;
	int sock = accept(*listener, NULL, NULL), room = 64 << 20, fds[1];
	pthread_t t[MOUTHS];

	/* so that something always waits; where that is not ours to ask, most of the time */
	(void)setsockopt(sock, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room));

	info = (struct vm_ctl_msg){.type = VM_CTL_INFO, .tag = 1, .info = {.version = 1}};
	assert_int_equal(vm_ctl_recv(sock, frame, &len, fds, &none, NULL), 0);
	frame_send(sock, &info);
	len = sizeof(frame);
	assert_int_equal(vm_ctl_recv(sock, frame, &len, fds, &none, NULL), 0);
	for (unsigned i = 0; i < MOUTHS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, mouth, &sock), 0);
	for (unsigned i = 0; i < MOUTHS; i++)
		assert_int_equal(pthread_join(t[i], NULL), 0);
	(void)close(sock);
	return NULL;
}

/* It cannot keep its client from ever coming back. */
static void test_talk_without_end(void **state)
{
	const struct vm_ctl_msg rq = {.type = VM_CTL_STATE};
	char dir[] = "/tmp/vmctl.XXXXXX";
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	struct vm_ctl *c = NULL;
	pthread_t t;

	(void)state;
	assert_non_null(mkdtemp(dir));
	(void)snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/vm.sock", dir);
	assert_int_equal(bind(sock, (struct sockaddr *)&sa, sizeof(sa)), 0);
	assert_int_equal(listen(sock, 1), 0);
	assert_int_equal(pthread_create(&t, NULL, talker, &sock), 0);
	assert_int_equal(vm_ctl_open(&c, sa.sun_path, UINT64_C(2000000000), NULL), 0);
	assert_int_equal(vm_ctl_call(c, &rq, VM_CTL_INFO, &in, NULL, NULL), LB_ETIMEDOUT);
	assert_false(vm_ctl_usable(c));
	vm_ctl_close(c);
	assert_int_equal(pthread_join(t, NULL), 0);
	(void)close(sock);
	(void)unlink(sa.sun_path);
	(void)rmdir(dir);
}

/* ---- launch ---- */

static void fill_launch(struct vm_launch *l)
{
	*l = (struct vm_launch){.name = "db01",
				.ram_bytes = 64 << 20,
				.vcpus = 2,
				.boot = VM_LAUNCH_BIOS,
				.restore_mode = VM_RESTORE_LAZY,
				.disks = 1,
				.nics = 1,
				.fds = 6};
	l->disk[0] = (struct vm_launch_disk){
		.bus = VM_DISK_IDE, .overlay = true, .size_bytes = 1 << 20, .label = "hda"};
	l->nic[0].tap = true;
	l->fd[0].role = VM_FD_LISTEN;
	l->fd[1].role = VM_FD_BIOS;
	l->fd[2].role = VM_FD_DISK_DATA;
	l->fd[3].role = VM_FD_DISK_VIEW;
	l->fd[4].role = VM_FD_DISK_MAP;
	l->fd[5].role = VM_FD_TAP;
}

static int launch_trip(const struct vm_launch *l, struct vm_launch *back)
{
	static uint8_t bytes[VM_LAUNCH_BYTES_MAX];
	size_t len = 0;

	assert_int_equal(vm_launch_encode(bytes, sizeof(bytes), &len, l, NULL), 0);
	for (size_t n = 0; n < len; n++)
		assert_int_not_equal(vm_launch_decode(back, bytes, n, NULL), 0);
	return vm_launch_decode(back, bytes, len, NULL);
}

static void test_launch(void **state)
{
	static struct vm_launch l, back;

	(void)state;
	fill_launch(&l);
	assert_int_equal(launch_trip(&l, &back), 0);
	assert_string_equal(back.name, "db01");
	assert_true(back.disk[0].overlay);
	assert_true(back.nic[0].tap);
	assert_int_equal(vm_launch_find(&back, VM_FD_TAP, 0), 5);
	assert_int_equal(vm_launch_find(&back, VM_FD_KERNEL, 0), -1);
}

static void test_launch_lacks_something(void **state)
{
	static struct vm_launch l, back;

	(void)state;
	for (uint32_t i = 0; i < 6; i++) { /* any of its descriptors */
		fill_launch(&l);
		l.fd[i] = (struct vm_launch_fd){.role = VM_FD_SERIAL_LOG};
		assert_int_equal(launch_trip(&l, &back), LB_EINPUT);
	}
	fill_launch(&l);
	l.fd[1] = l.fd[0]; /* one twice */
	assert_int_equal(launch_trip(&l, &back), LB_EPROTO);
	fill_launch(&l);
	l.fd[5].index = VM_NICS_MAX;
	assert_int_equal(launch_trip(&l, &back), LB_EPROTO);
	fill_launch(&l);
	l.ram_bytes += 4096;
	assert_int_equal(launch_trip(&l, &back), LB_EINPUT);
	fill_launch(&l);
	l.vcpus = VM_VCPUS_MAX + 1;
	assert_int_equal(launch_trip(&l, &back), LB_EINPUT);
	fill_launch(&l);
	l.boot = VM_LAUNCH_RESTORE;
	assert_int_equal(launch_trip(&l, &back), LB_EINPUT);
	fill_launch(&l);
	l.disk[0].size_bytes = 1000;
	assert_int_equal(launch_trip(&l, &back), LB_EINPUT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vectors),
		cmocka_unit_test(test_info_and_cut),
		cmocka_unit_test(test_an_error_keeps_its_code),
		cmocka_unit_test(test_malformed),
		cmocka_unit_test(test_numbers_out_of_range),
		cmocka_unit_test(test_descriptors_are_never_leaked),
		cmocka_unit_test(test_last_words),
		cmocka_unit_test(test_talk_without_end),
		cmocka_unit_test(test_launch),
		cmocka_unit_test(test_launch_lacks_something),
	};

	(void)alarm(50);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
