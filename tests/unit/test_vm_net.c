#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "check.h"
#include "net_sink.h"
#include "vmcore/net.h"

#define FRAME 100u

static void send_frame(struct vm_net *n, uint8_t to, uint8_t from, uint8_t fill)
{
	uint8_t f[FRAME];

	net_sink_frame(f, sizeof(f), to, from, fill);
	assert_true(vm_net_send(n, f, sizeof(f)));
}

static void test_null(void **state)
{
	struct vm_net *n;
	struct lb_err err = {0};

	(void)state;
	assert_int_equal(vm_net_null(&n, &err), 0);
	send_frame(n, 0xff, 1, 0);
	vm_net_destroy(n);
	vm_net_destroy(NULL);
}

/* Unknown and group addresses go to all others, known ones to their port only. */
static void test_switch(void **state)
{
	struct vm_switch *sw;
	struct vm_net *p[3];
	struct net_sink s[3];
	struct lb_err err = {0};

	(void)state;
	assert_int_equal(vm_switch_create(&sw, &err), 0);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(vm_net_switch(&p[i], sw, &err), 0);
		net_sink_init(&s[i]);
		vm_net_connect(p[i], net_sink_receive, &s[i]);
	}
	send_frame(p[0], 2, 1, 10); /* unknown: flooded */
	net_sink_wait(&s[1], 1);
	net_sink_wait(&s[2], 1);
	send_frame(p[1], 1, 2, 11); /* known: to port 0 only */
	net_sink_wait(&s[0], 1);
	send_frame(p[0], 2, 1, 12);
	net_sink_wait(&s[1], 2);
	send_frame(p[2], 0xff, 3, 13); /* all the others; and it comes after all above */
	net_sink_wait(&s[0], 2);
	net_sink_wait(&s[1], 3);
	assert_int_equal(s[2].count, 1);
	assert_int_equal(s[0].frame[0][20], 11);
	assert_int_equal(s[0].frame[1][20], 13);
	assert_int_equal(s[1].frame[1][20], 12);
	assert_int_equal(s[1].len[1], FRAME);

	send_frame(p[2], 0xff, 1, 14); /* station 1 moved to port 2 (as after a failover) */
	net_sink_wait(&s[1], 4);
	send_frame(p[1], 1, 2, 15);
	net_sink_wait(&s[2], 2);
	assert_int_equal(s[0].count, 3); /* heard 14, not 15 */
	vm_net_destroy(p[2]);            /* unplugged: its stations are unknown again */
	send_frame(p[1], 1, 2, 16);
	net_sink_wait(&s[0], 4);
	assert_true(vm_net_send(p[0], "short", 5)); /* no frame */
	for (unsigned i = 0; i < 3; i++) {
		if (i < 2)
			vm_net_destroy(p[i]);
		net_sink_fini(&s[i]);
	}
	vm_switch_destroy(sw);
	vm_switch_destroy(NULL);
}

static void test_switch_full(void **state)
{
	struct vm_switch *sw;
	struct vm_net *p[33];
	struct lb_err err = {0};

	(void)state;
	assert_int_equal(vm_switch_create(&sw, &err), 0);
	for (unsigned i = 0; i < 32; i++)
		assert_int_equal(vm_net_switch(&p[i], sw, &err), 0);
	assert_int_equal(vm_net_switch(&p[32], sw, &err), LB_EINPUT);
	for (unsigned i = 0; i < 300; i++) { /* more stations than the table holds */
		uint8_t f[64];

		net_sink_frame(f, sizeof(f), 0xff, (uint8_t)i, 0);
		f[10] = (uint8_t)(i >> 8);
		assert_true(vm_net_send(p[i % 32], f, sizeof(f)));
	}
	for (unsigned i = 0; i < 32; i++)
		vm_net_destroy(p[i]);
	vm_switch_destroy(sw);
}

static void on_room(void *arg)
{
	(*(unsigned *)arg)++;
}

/* Nothing leaves before its cut is acknowledged, everything leaves after, in order. */
static void test_hold(void **state)
{
	struct vm_switch *sw;
	struct vm_net *port, *peer, *hold;
	struct net_sink s;
	unsigned rooms = 0;
	struct lb_err err = {0};

	(void)state;
	net_sink_init(&s);
	assert_int_equal(vm_switch_create(&sw, &err), 0);
	assert_int_equal(vm_net_switch(&port, sw, &err), 0);
	assert_int_equal(vm_net_switch(&peer, sw, &err), 0);
	assert_int_equal(vm_net_hold(&hold, port, 4 * FRAME, &err), 0);
	vm_net_connect(peer, net_sink_receive, &s);
	vm_net_on_room(hold, on_room, &rooms);

	send_frame(hold, 0xff, 1, 1);
	vm_net_hold_ack(hold, 7); /* of no cut yet */
	assert_int_equal(vm_net_held_bytes(hold), FRAME);
	vm_net_hold_cut(hold, 1);
	send_frame(hold, 0xff, 1, 2);
	vm_net_hold_cut(hold, 2);
	send_frame(hold, 0xff, 1, 3);
	vm_net_hold_ack(hold, 1);
	net_sink_wait(&s, 1);
	assert_int_equal(vm_net_held_bytes(hold), 2 * FRAME);
	vm_net_hold_cut(hold, 3); /* cut 2 is given up; 3 covers it */
	send_frame(hold, 0xff, 1, 4);
	vm_net_hold_ack(hold, 3);
	net_sink_wait(&s, 3);
	assert_int_equal(vm_net_held_bytes(hold), FRAME);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(s.frame[i][20], i + 1);

	for (uint8_t i = 5; i < 8; i++)
		send_frame(hold, 0xff, 1, i);
	assert_false(vm_net_send(hold, s.frame[0], FRAME)); /* full */
	assert_int_equal(rooms, 0);
	vm_net_hold_cut(hold, 4);
	vm_net_hold_ack(hold, 4);
	assert_int_equal(rooms, 1);
	net_sink_wait(&s, 7);
	vm_net_hold_ack(hold, 4); /* told once */
	assert_int_equal(rooms, 1);
	assert_int_equal(vm_net_held_bytes(hold), 0);

	send_frame(hold, 0xff, 1, 8); /* never acknowledged, never sent */
	vm_net_announce(hold, s.frame[0] + 6);
	net_sink_wait(&s, 8);
	assert_int_equal(s.frame[7][12], 0x80);
	vm_net_destroy(hold);
	vm_net_destroy(peer);
	vm_net_destroy(port);
	vm_switch_destroy(sw);
	net_sink_fini(&s);
}

/* However small the bound, a frame may wait; and frames are let in behind the hold at once. */
static void test_hold_small(void **state)
{
	struct vm_switch *sw;
	struct vm_net *port, *peer, *hold;
	struct net_sink s;
	struct lb_err err = {0};

	(void)state;
	net_sink_init(&s);
	assert_int_equal(vm_switch_create(&sw, &err), 0);
	assert_int_equal(vm_net_switch(&port, sw, &err), 0);
	assert_int_equal(vm_net_switch(&peer, sw, &err), 0);
	assert_int_equal(vm_net_hold(&hold, port, 1, &err), 0);
	send_frame(hold, 0xff, 1, 1);
	assert_false(vm_net_send(hold, &err, FRAME));
	vm_net_connect(hold, net_sink_receive, &s);
	send_frame(peer, 0xff, 2, 9);
	net_sink_wait(&s, 1);
	assert_int_equal(s.frame[0][20], 9);
	vm_net_connect(hold, NULL, NULL);
	vm_net_destroy(hold);
	vm_net_destroy(peer);
	vm_net_destroy(port);
	vm_switch_destroy(sw);
	net_sink_fini(&s);
}

/* Bytes that no wire carries so short: the bound is of our memory, not of theirs. */
static void test_hold_tiny_frames(void **state)
{
	struct vm_net *null, *hold;
	struct lb_err err = {0};
	unsigned taken = 0;

	(void)state;
	assert_int_equal(vm_net_null(&null, &err), 0);
	assert_int_equal(vm_net_hold(&hold, null, 600, &err), 0);
	while (taken < 600 && vm_net_send(hold, "x", 1))
		taken++;
	assert_int_equal(taken, 10);
	vm_net_hold_cut(hold, 1);
	vm_net_hold_ack(hold, 1);
	assert_int_equal(vm_net_held_bytes(hold), 0);
	assert_true(vm_net_send(hold, "x", 1));
	vm_net_destroy(hold);
	vm_net_destroy(null);
}

/* RFC 903, as a switch and tcpdump want to see it. */
static void test_announce(void **state)
{
	static const uint8_t mac[6] = {0x52, 0x54, 0, 1, 2, 3};
	struct vm_net *tap;
	int fd[2];
	uint8_t f[100];
	struct lb_err err = {0};

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fd), 0);
	assert_int_equal(vm_net_tap(&tap, fd[0], &err), 0);
	vm_net_announce(tap, mac);
	assert_int_equal(read(fd[1], f, sizeof(f)), 60);
	check_hex(f, 42,
		  "ffffffffffff525400010203"
		  "8035"
		  "0001080006040003"
		  "52540001020300000000"
		  "52540001020300000000");
	vm_net_destroy(tap);
	(void)close(fd[1]);
}

static void test_tap(void **state)
{
	struct vm_net *tap;
	struct net_sink s;
	int fd[2];
	uint8_t f[FRAME], back[FRAME + 1];
	struct lb_err err = {0};

	(void)state;
	net_sink_init(&s);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fd), 0);
	assert_int_equal(vm_net_tap(&tap, fd[0], &err), 0);
	vm_net_connect(tap, net_sink_receive, &s);
	net_sink_frame(f, sizeof(f), 1, 2, 3);
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(write(fd[1], f, sizeof(f)), (ssize_t)sizeof(f));
	net_sink_wait(&s, 5);
	assert_int_equal(s.len[4], FRAME);
	assert_true(vm_net_send(tap, f, sizeof(f)));
	assert_int_equal(read(fd[1], back, sizeof(back)), (ssize_t)sizeof(f));
	assert_memory_equal(f, back, sizeof(f));
	(void)close(fd[1]); /* the tap is taken away: sending goes nowhere, destroy still works */
	assert_true(vm_net_send(tap, f, sizeof(f)));
	vm_net_destroy(tap);
	net_sink_fini(&s);

	assert_int_equal(vm_net_tap(&tap, -1, &err), LB_EIO);
}

/* More comes than anybody can take: it can be unplugged all the same. */
static void test_a_tap_that_never_falls_silent(void **state)
{
	struct vm_net *tap;
	struct net_sink s;
	struct lb_err err = {0};

	(void)state;
	net_sink_init(&s);
	assert_int_equal(vm_net_tap(&tap, open("/dev/zero", O_RDWR | O_CLOEXEC), &err), 0);
	vm_net_connect(tap, net_sink_receive, &s);
	net_sink_wait(&s, SINK_FRAMES);
	vm_net_connect(tap, NULL, NULL);
	vm_net_destroy(tap);
	net_sink_fini(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_null),
		cmocka_unit_test(test_switch),
		cmocka_unit_test(test_switch_full),
		cmocka_unit_test(test_hold),
		cmocka_unit_test(test_hold_small),
		cmocka_unit_test(test_hold_tiny_frames),
		cmocka_unit_test(test_announce),
		cmocka_unit_test(test_tap),
		cmocka_unit_test(test_a_tap_that_never_falls_silent),
	};

	(void)alarm(50);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
