#include "kvm_guest.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/env.h"
#include "base/err.h"
#include "check.h"
#include "vm_int.h"

static void *watchdog(void *arg)
{
	struct timespec t = {.tv_sec = (time_t)(uintptr_t)arg};

	(void)nanosleep(&t, NULL);
	(void)fprintf(stderr, "watchdog: not done after %u s\n", (unsigned)(uintptr_t)arg);
	_exit(1);
}

const struct vm_host *kvm_guest_main(unsigned limit_s)
{
	static struct vm_host host;
	pthread_t t;

	vm_probe(&host);
	if (host.kind == VM_KVM_NONE) {
		(void)fprintf(stderr, "skipped: no KVM: %s\n", host.detail);
		exit(77);
	}
	if (pthread_create(&t, NULL, watchdog, (void *)(uintptr_t)limit_s) != 0)
		exit(1);
	(void)pthread_detach(t);
	return &host;
}

static void keep(char *out, size_t cap, size_t *len, const struct vm_event *e)
{
	size_t n = e->len < cap - 1 - *len ? e->len : cap - 1 - *len;

	memcpy(out + *len, e->bytes, n);
	*len += n;
	out[*len] = '\0';
}

static void on_event(void *arg, const struct vm_event *e)
{
	struct kvm_guest *g = arg;

	if (g->tap != NULL)
		g->tap(g->tap_arg, e);
	(void)pthread_mutex_lock(&g->lock);
	g->count[e->type]++;
	if (e->type == VM_EVENT_SERIAL)
		keep(g->serial, sizeof(g->serial), &g->serial_len, e);
	if (e->type == VM_EVENT_DEBUG)
		keep(g->debug, sizeof(g->debug), &g->debug_len, e);
	if (e->type == VM_EVENT_FAULT || e->type == VM_EVENT_PAGER_LOST) {
		(void)snprintf(g->fault, sizeof(g->fault), "%s", e->text);
		g->fault_rip = e->rip;
	}
	(void)pthread_cond_broadcast(&g->changed);
	(void)pthread_mutex_unlock(&g->lock);
}

void kvm_guest_init(struct kvm_guest *g, struct vm_cfg *cfg)
{
	memset(g, 0, sizeof(*g));
	(void)pthread_mutex_init(&g->lock, NULL);
	(void)pthread_cond_init(&g->changed, NULL);
	cfg->on_event = on_event;
	cfg->arg = g;
}

void kvm_guest_fini(struct kvm_guest *g)
{
	(void)pthread_cond_destroy(&g->changed);
	(void)pthread_mutex_destroy(&g->lock);
}

/* Lock held; false: go on waiting. */
typedef bool (*seen_fn)(const struct kvm_guest *g, const void *what, size_t n);

static void wait_for(struct kvm_guest *g, seen_fn seen, const void *what, size_t n)
{
	bool fault = false;

	(void)pthread_mutex_lock(&g->lock);
	while (!seen(g, what, n) && !fault) {
		fault = g->count[VM_EVENT_FAULT] + g->count[VM_EVENT_PAGER_LOST] > 0;
		if (!fault)
			(void)pthread_cond_wait(&g->changed, &g->lock);
	}
	fault = fault && !seen(g, what, n);
	(void)pthread_mutex_unlock(&g->lock);
	if (fault)
		fail_msg("guest: %s, rip 0x%llx, serial: %s", g->fault,
			 (unsigned long long)g->fault_rip, g->serial);
}

static bool seen_serial(const struct kvm_guest *g, const void *what, size_t n)
{
	(void)n;
	return strstr(g->serial, what) != NULL;
}

static bool seen_debug(const struct kvm_guest *g, const void *what, size_t n)
{
	(void)n;
	return strstr(g->debug, what) != NULL;
}

static bool seen_event(const struct kvm_guest *g, const void *what, size_t n)
{
	const enum vm_event_type *type = what;

	return g->count[*type] >= n;
}

static bool seen_bytes(const struct kvm_guest *g, const void *what, size_t n)
{
	(void)what;
	return g->serial_len >= n;
}

bool kvm_guest_said(struct kvm_guest *g, const char *text)
{
	bool said;

	(void)pthread_mutex_lock(&g->lock);
	said = seen_serial(g, text, 0);
	(void)pthread_mutex_unlock(&g->lock);
	return said;
}

void kvm_guest_wait_serial(struct kvm_guest *g, const char *text)
{
	wait_for(g, seen_serial, text, 0);
}

void kvm_guest_wait_debug(struct kvm_guest *g, const char *text)
{
	wait_for(g, seen_debug, text, 0);
}

void kvm_guest_wait_event(struct kvm_guest *g, enum vm_event_type type, unsigned count)
{
	wait_for(g, seen_event, &type, count);
}

void kvm_guest_wait_bytes(struct kvm_guest *g, size_t len)
{
	wait_for(g, seen_bytes, NULL, len);
}

int kvm_guest_payload_fd(void)
{
	int fd = open(PAYLOAD, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		fail_msg("%s", PAYLOAD);
	return fd;
}

struct vm *kvm_guest_payload(struct vm_cfg *cfg, const char *cmdline)
{
	struct vm_cfg c = *cfg;
	struct lb_err err = {0};
	struct vm *vm = NULL;

	c.kernel_fd = kvm_guest_payload_fd();
	c.cmdline = cmdline;
	if (vm_create(&vm, lb_env_real(), &c, &err) != 0)
		fail_msg("%s", err.msg);
	(void)close(c.kernel_fd);
	return vm;
}
