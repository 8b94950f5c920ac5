/*
 * A real guest uses the entropy source, the agent port in both directions, and a card on an
 * isolated switch, and goes on with all of it in other machines: nothing is said twice, nothing is
 * missing, and what it draws from the entropy source is new in each of them.
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/env.h"
#include "base/err.h"
#include "check.h"
#include "imaging/dev.h"
#include "kvm_guest.h"
#include "kvm_point.h"
#include "vmcore/net.h"
#include "vmcore/vm.h"

#define FRAME 60u

static const uint8_t guest_mac[6] = {0x52, 0x54, 0, 0, 0, 9};
static const uint8_t our_mac[6] = {2, 0, 0, 0, 0, 1};

struct fix {
	struct vm_cfg cfg;
	struct vm_nic_cfg nic;
	struct kvm_guest g;
	struct vm *vm;
	struct vm_switch *sw;
	struct vm_net *port, *peer;
	/* what came out; guarded by lock */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	char said[1 << 18];
	size_t len;
	uint8_t frame[FRAME];
	unsigned frames;
	bool over;
};

/* ---- what comes out ---- */

static void on_event(void *arg, const struct vm_event *e)
{
	struct fix *f = arg;

	(void)pthread_mutex_lock(&f->lock);
	if (e->type == VM_EVENT_PORT && e->len < sizeof(f->said) - f->len) {
		memcpy(f->said + f->len, e->bytes, e->len);
		f->len += e->len;
		f->said[f->len] = '\0';
	}
	f->over |= e->type == VM_EVENT_FAULT || e->type == VM_EVENT_RESET;
	(void)pthread_cond_broadcast(&f->changed);
	(void)pthread_mutex_unlock(&f->lock);
}

static void on_frame(void *arg, const void *frame, size_t len)
{
	struct fix *f = arg;

	(void)pthread_mutex_lock(&f->lock);
	if (len == FRAME) {
		memcpy(f->frame, frame, FRAME);
		f->frames++;
	}
	(void)pthread_cond_broadcast(&f->changed);
	(void)pthread_mutex_unlock(&f->lock);
}

/* The guest's fault ends the wait, and the test; a guest that says nothing, the watchdog. */
static void wait_said(struct fix *f, const char *text)
{
	bool over;

	(void)pthread_mutex_lock(&f->lock);
	while (strstr(f->said, text) == NULL && !f->over)
		(void)pthread_cond_wait(&f->changed, &f->lock);
	over = f->over;
	(void)pthread_mutex_unlock(&f->lock);
	if (over)
		fail_msg("guest: %s%s", f->g.fault, f->g.serial);
}

static void wait_beat(struct fix *f, uint64_t n)
{
	char text[32];

	(void)snprintf(text, sizeof(text), "beat %" PRIu64 " ", n);
	wait_said(f, text);
}

/* ---- fixture ---- */

static void must(int rc, const struct lb_err *err)
{
	if (rc != 0)
		fail_msg("%s: %s", lb_err_name(rc), err->msg);
}

static int setup(void **state)
{
	static struct fix f;
	struct lb_err err = {0};

	f = (struct fix){.cfg = VM_CFG_DEFAULTS};
	f.cfg.ram_bytes = 32 << 20;
	f.cfg.reset_stops = true;
	kvm_guest_init(&f.g, &f.cfg);
	f.g.tap = on_event;
	f.g.tap_arg = &f;
	(void)pthread_mutex_init(&f.lock, NULL);
	(void)pthread_cond_init(&f.changed, NULL);
	must(vm_switch_create(&f.sw, &err), &err);
	must(vm_net_switch(&f.port, f.sw, &err), &err);
	must(vm_net_switch(&f.peer, f.sw, &err), &err);
	vm_net_connect(f.peer, on_frame, &f);
	f.nic.net = f.port;
	memcpy(f.nic.mac, guest_mac, sizeof(guest_mac));
	f.cfg.nics = &f.nic;
	f.cfg.nic_count = 1;
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	struct fix *f = *state;

	vm_destroy(f->vm);
	vm_net_connect(f->peer, NULL, NULL);
	vm_net_destroy(f->peer);
	vm_net_destroy(f->port);
	vm_switch_destroy(f->sw);
	kvm_guest_fini(&f->g);
	(void)pthread_cond_destroy(&f->changed);
	(void)pthread_mutex_destroy(&f->lock);
	return 0;
}

static void start(struct fix *f)
{
	struct lb_err err = {0};

	must(vm_start(f->vm, &err), &err);
}

/* ---- what is asked of the guest ---- */

static void check_port(struct fix *f, const char *ask, const char *answer)
{
	assert_int_equal(vm_port_input(f->vm, ask, strlen(ask)), strlen(ask));
	wait_said(f, answer);
}

static void check_frame(struct fix *f, uint8_t seed)
{
	uint8_t frame[FRAME];
	unsigned before;

	memcpy(frame, guest_mac, 6);
	memcpy(frame + 6, our_mac, 6);
	for (unsigned i = 12; i < FRAME; i++)
		frame[i] = (uint8_t)(seed + i);
	(void)pthread_mutex_lock(&f->lock);
	before = f->frames;
	(void)pthread_mutex_unlock(&f->lock);
	assert_true(vm_net_send(f->peer, frame, FRAME));
	(void)pthread_mutex_lock(&f->lock);
	while (f->frames == before && !f->over)
		(void)pthread_cond_wait(&f->changed, &f->lock);
	assert_int_equal(f->frames, before + 1);
	assert_memory_equal(f->frame, our_mac, 6);
	assert_memory_equal(f->frame + 6, guest_mac, 6);
	for (unsigned i = 12; i < FRAME; i++)
		assert_int_equal(f->frame[i], (uint8_t)(seed + i + 1));
	(void)pthread_mutex_unlock(&f->lock);
}

/* Beats are numbered without a gap from @from on; what was shouted between them is skipped. Returns
 * the number after the last one. */
static uint64_t check_beats(const char *said, uint64_t from)
{
	for (const char *p = said; (p = strstr(p, "beat ")) != NULL; p++) {
		char *end;

		if (strchr(p, '\n') == NULL)
			break;
		assert_int_equal(strtoull(p + 5, &end, 10), from++);
		assert_int_equal(strspn(end + 1, "0123456789abcdef"), 16);
	}
	return from;
}

/* The random number told with beat @n; @out has room for 17. */
static void random_of(const char *said, uint64_t n, char *out)
{
	char text[32];
	const char *p;

	(void)snprintf(text, sizeof(text), "beat %" PRIu64 " ", n);
	p = strstr(said, text);
	assert_non_null(p);
	memcpy(out, p + strlen(text), 16);
	out[16] = '\0';
}

static void forget(struct fix *f)
{
	(void)pthread_mutex_lock(&f->lock);
	f->len = 0;
	f->said[0] = '\0';
	(void)pthread_mutex_unlock(&f->lock);
}

/* Another machine from @p: everything works on; *random is what it drew for the beat after @next,
 * whose own number may have been in the checkpoint's memory, drawn and not yet said. */
static void check_from_point(struct fix *f, const struct kvm_point *p, enum vm_restore_mode mode,
			     uint64_t next, char random[17])
{
	struct vm_restore r = kvm_point_restore(p, mode);

	forget(f);
	f->vm = kvm_restored(&f->cfg, &r);
	start(f);
	check_port(f, "thaw\n", "THAW\n");
	check_frame(f, (uint8_t)next);
	wait_beat(f, next + 5);
	vm_destroy(f->vm);
	f->vm = NULL;
	assert_true(check_beats(f->said, next) > next + 5);
	random_of(f->said, next + 1, random);
}

static void test_agent(void **state)
{
	struct fix *f = *state;
	char random[3][17];
	struct kvm_point p;
	uint64_t next;

	f->vm = kvm_guest_payload(&f->cfg, "prog=agent");
	start(f);
	kvm_guest_wait_serial(&f->g, "agent\n");
	wait_beat(f, 5);
	check_port(f, "hello\n", "HELLO\n");
	check_frame(f, 7);
	check_frame(f, 77);
	kvm_point_take(&p, f->vm, false);
	vm_destroy(f->vm);
	f->vm = NULL;
	next = check_beats(f->said, 1);
	check_from_point(f, &p, VM_RESTORE_LAZY, next, random[0]);
	check_from_point(f, &p, VM_RESTORE_MAPPED, next, random[1]);
	check_from_point(f, &p, VM_RESTORE_EAGER, next, random[2]);
	assert_string_not_equal(random[0], random[1]);
	assert_string_not_equal(random[1], random[2]);
	kvm_point_drop(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_agent, setup, teardown),
	};

	(void)kvm_guest_main(50);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
