/*
 * tests/lib/kvm_guest.h - what tests with a real guest share: skip, watchdog, events to wait for.
 *
 * A test program calls kvm_guest_main() first: without /dev/kvm it prints why and ends with 77; and
 * a thread of its own ends the program with a message when @limit_s are over, so that a guest that
 * hangs never outlives its test.
 */
#ifndef TESTS_KVM_GUEST_H
#define TESTS_KVM_GUEST_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmcore/event.h"
#include "vmcore/host.h"

struct vm;
struct vm_cfg;

/* Skips or arms the watchdog. Returns what vm_probe() says. */
const struct vm_host *kvm_guest_main(unsigned limit_s);

/* Events of a machine as they came. */
struct kvm_guest {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	char serial[1 << 20], debug[1 << 16]; /* NUL-terminated */
	size_t serial_len, debug_len;
	unsigned count[16]; /* events by type */
	char fault[256];
	uint64_t fault_rip;
	/* Also called, when set, before the event is kept. */
	void (*tap)(void *arg, const struct vm_event *e);
	void *tap_arg;
};

/* @cfg's events go to @g. */
void kvm_guest_init(struct kvm_guest *g, struct vm_cfg *cfg);
void kvm_guest_fini(struct kvm_guest *g);
/* Wait until serial or debug output holds @text / an event of @type came. A fault that was not
 * waited for fails the test with its text; there is no other limit than the watchdog. */
void kvm_guest_wait_serial(struct kvm_guest *g, const char *text);
void kvm_guest_wait_debug(struct kvm_guest *g, const char *text);
void kvm_guest_wait_event(struct kvm_guest *g, enum vm_event_type type, unsigned count);
/* Has the serial output @text by now? */
bool kvm_guest_said(struct kvm_guest *g, const char *text);
/* Wait until at least @len bytes of serial output are there. */
void kvm_guest_wait_bytes(struct kvm_guest *g, size_t len);

/* Descriptor of the test guest (tests/guests/payload), a bzImage; the caller's. */
int kvm_guest_payload_fd(void);
/* A machine that will run it with @cmdline; asserts success. */
struct vm *kvm_guest_payload(struct vm_cfg *cfg, const char *cmdline);

#endif
