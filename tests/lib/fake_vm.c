/*
 * A machine without KVM: vmcore's vm.h, cut.h and net.h as far as lifeboat-vm uses them. Its guest
 * counts in the first word of its memory and says so, echoes what is typed in capitals, and obeys
 * one-letter commands: 'O' switches itself off, 'F' faults, 'P' writes to the agent port, 'L' says
 * a long line, 'N' sends a byte by its first card, 'X' lets its next cut fail when the disks are
 * marked. A checkpoint's state is the counter and the disks. It has one thread, as a real one has.
 *
 * Off is a state before it is an event, and for a while here: a real machine tells of it when its
 * owner may have seen the state already, woken by something else.
 *
 * A real card with more to send does so as soon as it is called for room: so each cut is followed,
 * before vm_cut_take() returns, by one more byte by a card that has sent any.
 */
#include <ctype.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/env.h"
#include "base/err.h"
#include "base/rd.h"
#include "base/wr.h"
#include "imaging/dev.h"
#include "kvm.h"
#include "uffd.h"
#include "vmcore/cut.h"
#include "vmcore/host.h"
#include "vmcore/net.h"
#include "vmcore/vm.h"

#define PAGE        4096u
#define TICK_NS     1000000L
#define STATE_MAGIC 0x454b4146u /* "FAKE" */
#define INPUT_BYTES 64u
#define ORDER_MAX   16u
#define OFF_TICKS   20u

/* No NIC leads anywhere; a hold counts what it would hold. */
struct vm_net {
	int fd;
	bool sent_any;
	uint64_t uncut_bytes, cut_bytes, cut_seq;
};

struct vm {
	struct vm_cfg cfg;
	struct vm_net *net; /* of the first card */
	struct vm_disk_cfg disk[VM_DISKS_MAX];
	_Atomic int state;
	pthread_t thread;
	pthread_mutex_t lock; /* guest stands still while it is held by a call */
	bool started, quit, held;
	_Atomic bool cut_fails;
	int ram_fd;
	uint8_t *ram;
	uint64_t counter;
	char input[INPUT_BYTES];
	size_t typed;
	struct lb_buf *saved;
	uint64_t seq, held_ns;
	uint32_t order[ORDER_MAX];
	size_t order_count;
	unsigned off_ticks;  /* until it tells that it is off; 0: told, or not off */
	uint32_t cpu_leaves; /* of the template of a cold start; 0: none */
};

/* ---- the guest ---- */

static void say(struct vm *vm, enum vm_event_type type, const char *text)
{
	struct vm_event e = {.type = type,
			     .bytes = (const uint8_t *)text,
			     .len = (uint32_t)strlen(text),
			     .text = text};

	vm->cfg.on_event(vm->cfg.arg, &e);
}

static void say_long(struct vm *vm)
{
	static char line[70000];

	memset(line, 'x', sizeof(line) - 2);
	line[sizeof(line) - 2] = '\n';
	say(vm, VM_EVENT_SERIAL, line);
}

static void send_byte(struct vm_net *n)
{
	n->sent_any = true;
	n->uncut_bytes++;
}

static void obey(struct vm *vm, char c)
{
	char echo[2] = {(char)toupper((unsigned char)c), '\0'};

	if (c == 'O') {
		atomic_store(&vm->state, VM_OFF);
		say(vm, VM_EVENT_SERIAL, "off\n");
		vm->off_ticks = OFF_TICKS;
	} else if (c == 'F') {
		atomic_store(&vm->state, VM_CRASHED);
		say(vm, VM_EVENT_FAULT, "triple fault");
	} else if (c == 'P') {
		say(vm, VM_EVENT_PORT, "beat\n");
	} else if (c == 'L') {
		say_long(vm);
	} else if (c == 'X') {
		atomic_store(&vm->cut_fails, true);
		say(vm, VM_EVENT_SERIAL, "next cut fails\n");
	} else if (c == 'N') {
		send_byte(vm->net);
		say(vm, VM_EVENT_SERIAL, "sent\n");
	} else {
		say(vm, VM_EVENT_SERIAL, echo);
	}
}

static void *guest(void *arg)
{
	struct vm *vm = arg;
	const struct timespec tick = {.tv_nsec = TICK_NS};
	bool quit = false;

	while (!quit) {
		(void)pthread_mutex_lock(&vm->lock);
		if (atomic_load(&vm->state) == VM_RUNNING && !vm->held) {
			vm->counter++;
			memcpy(vm->ram, &vm->counter, sizeof(vm->counter));
			for (size_t i = 0; i < vm->typed; i++)
				obey(vm, vm->input[i]);
			vm->typed = 0;
		}
		if (vm->off_ticks > 0 && --vm->off_ticks == 0)
			say(vm, VM_EVENT_POWEROFF, "");
		quit = vm->quit;
		(void)pthread_mutex_unlock(&vm->lock);
		(void)nanosleep(&tick, NULL);
	}
	return NULL;
}

/* ---- devices of the host, of which it needs none ---- */

int vm_kvm_open(int *out, struct lb_err *err)
{
	(void)out;
	return lb_err_set(err, LB_EUNSUPPORTED, 0, "/dev/kvm");
}

int vm_uffd_open(int *out, struct lb_err *err)
{
	(void)out;
	return lb_err_set(err, LB_EUNSUPPORTED, 0, "userfaultfd");
}

/* ---- vm.h ---- */

static int load_state(struct vm *vm, const struct vm_restore *r, struct lb_err *err)
{
	struct lb_rd rd = lb_rd_init(r->state, r->state_bytes);

	(void)lb_rd_u32le(&rd);
	vm->counter = lb_rd_u64le(&rd);
	return img_pread(r->ram, vm->ram, vm->cfg.ram_bytes, 0, err);
}

int vm_create(struct vm **out, struct lb_env *env, const struct vm_cfg *cfg, struct lb_err *err)
{
	struct vm *vm = calloc(1, sizeof(*vm));
	int rc = 0;

	(void)env;
	if (vm == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "fake machine");
	vm->cfg = *cfg;
	vm->cpu_leaves = cfg->restore == NULL && cfg->cpu != NULL ? cfg->cpu->count : 0;
	memcpy(vm->disk, cfg->disks, cfg->disk_count * sizeof(vm->disk[0]));
	vm->net = cfg->nic_count > 0 ? cfg->nics[0].net : NULL;
	(void)pthread_mutex_init(&vm->lock, NULL);
	vm->ram_fd = memfd_create("fake", MFD_CLOEXEC);
	if (vm->ram_fd < 0 || ftruncate(vm->ram_fd, (off_t)cfg->ram_bytes) != 0)
		rc = lb_err_errno(err, errno, "memory");
	vm->ram = rc != 0 ? MAP_FAILED
			  : mmap(NULL, cfg->ram_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
				 vm->ram_fd, 0);
	if (rc == 0 && vm->ram == MAP_FAILED)
		rc = lb_err_errno(err, errno, "memory");
	if (rc == 0 && cfg->restore != NULL)
		rc = load_state(vm, cfg->restore, err);
	/* as the threads of a real one's disks do, it runs before the jail is closed */
	vm->started = rc == 0 && pthread_create(&vm->thread, NULL, guest, vm) == 0;
	if (rc == 0 && !vm->started)
		rc = lb_err_set(err, LB_ENOMEM, 0, "guest thread");
	for (size_t i = 0;
	     rc == 0 && cfg->restore != NULL && i < ORDER_MAX && i < cfg->restore->order_count; i++)
		vm->order[vm->order_count++] = cfg->restore->order[i];
	if (rc != 0)
		vm_destroy(vm);
	else
		*out = vm;
	return rc;
}

void vm_destroy(struct vm *vm)
{
	if (vm == NULL)
		return;
	if (vm->started) {
		(void)pthread_mutex_lock(&vm->lock);
		vm->quit = true;
		(void)pthread_mutex_unlock(&vm->lock);
		(void)pthread_join(vm->thread, NULL);
	}
	if (vm->ram != MAP_FAILED && vm->ram != NULL)
		(void)munmap(vm->ram, vm->cfg.ram_bytes);
	if (vm->ram_fd >= 0)
		(void)close(vm->ram_fd);
	lb_buf_unref(vm->saved);
	(void)pthread_mutex_destroy(&vm->lock);
	free(vm);
}

int vm_start(struct vm *vm, struct lb_err *err)
{
	char line[40];

	(void)err;
	atomic_store(&vm->state, VM_RUNNING);
	say(vm, VM_EVENT_SERIAL, vm->cfg.restore != NULL ? "going on\n" : "hello\n");
	if (vm->cpu_leaves > 0) {
		(void)snprintf(line, sizeof(line), "cpu of %u leaves\n", vm->cpu_leaves);
		say(vm, VM_EVENT_SERIAL, line);
	}
	return 0;
}

int vm_pause(struct vm *vm, uint64_t limit_ns, struct lb_err *err)
{
	(void)limit_ns;
	if (atomic_load(&vm->state) != VM_RUNNING)
		return lb_err_set(err, LB_EINVAL, 0, "it does not run");
	(void)pthread_mutex_lock(&vm->lock);
	atomic_store(&vm->state, VM_PAUSED);
	(void)pthread_mutex_unlock(&vm->lock);
	return 0;
}

int vm_resume(struct vm *vm, struct lb_err *err)
{
	if (atomic_load(&vm->state) != VM_PAUSED)
		return lb_err_set(err, LB_EINVAL, 0, "it is not paused");
	atomic_store(&vm->state, VM_RUNNING);
	return 0;
}

int vm_reset(struct vm *vm, struct lb_err *err)
{
	(void)err;
	(void)pthread_mutex_lock(&vm->lock);
	vm->counter = 0;
	say(vm, VM_EVENT_RESET, "");
	(void)pthread_mutex_unlock(&vm->lock);
	return 0;
}

void vm_power_button(struct vm *vm)
{
	(void)vm_serial_input(vm, "O", 1);
}

void vm_stop(struct vm *vm)
{
	(void)pthread_mutex_lock(&vm->lock);
	atomic_store(&vm->state, VM_OFF);
	(void)pthread_mutex_unlock(&vm->lock);
}

enum vm_state vm_state(const struct vm *vm)
{
	return (enum vm_state)atomic_load(&vm->state);
}

size_t vm_serial_input(struct vm *vm, const void *p, size_t len)
{
	size_t n;

	(void)pthread_mutex_lock(&vm->lock);
	n = len < INPUT_BYTES - vm->typed ? len : INPUT_BYTES - vm->typed;
	memcpy(vm->input + vm->typed, p, n);
	vm->typed += n;
	(void)pthread_mutex_unlock(&vm->lock);
	return n;
}

size_t vm_port_input(struct vm *vm, const void *p, size_t len)
{
	struct vm_event e = {.type = VM_EVENT_PORT, .bytes = p, .len = (uint32_t)len};

	vm->cfg.on_event(vm->cfg.arg, &e);
	return len;
}

int vm_screen_text(struct vm *vm, char *out, size_t cap, struct lb_err *err)
{
	static const char screen[] = "fake screen\n";

	(void)vm;
	if (cap < sizeof(screen))
		return lb_err_set(err, LB_EINVAL, 0, "screen needs %zu bytes", sizeof(screen));
	memcpy(out, screen, sizeof(screen));
	return 0;
}

int vm_screen_pixels(struct vm *vm, uint8_t **out, uint32_t *width, uint32_t *height,
		     uint8_t palette[16][3], struct lb_err *err)
{
	(void)vm;
	*out = calloc(8, 4);
	if (*out == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "screen");
	for (unsigned i = 0; i < 32; i++)
		(*out)[i] = (uint8_t)(i % 16);
	for (unsigned i = 0; i < 16; i++)
		memset(palette[i], (int)(i * 17), 3);
	*width = 8;
	*height = 4;
	return 0;
}

void vm_stats(const struct vm *vm, struct vm_stats *out)
{
	pthread_mutex_t *lock =
		(pthread_mutex_t *)(uintptr_t)&vm->lock; /* a look changes nothing */

	(void)pthread_mutex_lock(lock);
	*out = (struct vm_stats){.exits = vm->counter, .cuts = vm->seq};
	if (vm->net != NULL)
		out->held_bytes = vm_net_held_bytes(vm->net);
	(void)pthread_mutex_unlock(lock);
}

/* ---- cut.h ---- */

uint64_t vm_ram_volume_bytes(uint64_t ram_bytes)
{
	return ram_bytes;
}

int vm_cut_prepare(struct vm *vm, struct lb_err *err)
{
	(void)vm;
	(void)err;
	return 0;
}

int vm_cut_hold(struct vm *vm, uint64_t limit_ns, struct lb_err *err)
{
	(void)limit_ns;
	(void)err;
	(void)pthread_mutex_lock(&vm->lock);
	vm->held = true;
	vm->held_ns = lb_env_real()->now_ns(lb_env_real());
	(void)pthread_mutex_unlock(&vm->lock);
	return 0;
}

int vm_cut_take(struct vm *vm, struct vm_cut *out, vm_cut_mark_fn mark, void *arg,
		struct lb_err *err)
{
	uint8_t state[16 + 9 * VM_DISKS_MAX];
	struct lb_wr wr = lb_wr_init(state, sizeof(state));
	int rc = mark != NULL ? mark(arg, vm->seq + 1, err) : 0;

	if (rc == 0 && atomic_exchange(&vm->cut_fails, false))
		rc = lb_err_set(err, LB_EIO, 0, "KVM_CLEAR_DIRTY_LOG");
	lb_wr_u32le(&wr, STATE_MAGIC);
	lb_wr_u64le(&wr, vm->counter);
	lb_wr_u32le(&wr, (uint32_t)vm->cfg.disk_count);
	for (size_t i = 0; i < vm->cfg.disk_count; i++) {
		lb_wr_u8(&wr, (uint8_t)vm->disk[i].bus);
		lb_wr_u64le(&wr, vm->disk[i].dev->size_bytes);
	}
	lb_buf_unref(vm->saved);
	vm->saved = NULL;
	if (rc == 0)
		rc = lb_buf_copy_of(&vm->saved, state, wr.len, err);
	if (rc != 0)
		return rc;
	if (vm->net != NULL && vm->net->sent_any)
		send_byte(vm->net);
	*out = (struct vm_cut){.seq = ++vm->seq,
			       .boot_ns = vm->held_ns,
			       .wall_ns = lb_env_real()->wall_ns(lb_env_real()),
			       .state = vm->saved,
			       .ram_fd = vm->ram_fd,
			       .ram_bytes = vm->cfg.ram_bytes,
			       .all_changed = true};
	return 0;
}

void vm_cut_resume(struct vm *vm, struct vm_cut *cut)
{
	(void)pthread_mutex_lock(&vm->lock);
	vm->held = false;
	if (cut != NULL)
		cut->pause_ns = lb_env_real()->now_ns(lb_env_real()) - vm->held_ns;
	(void)pthread_mutex_unlock(&vm->lock);
}

void vm_cut_end(struct vm *vm, bool kept)
{
	(void)vm;
	(void)kept;
}

/* A leaf for each byte. */
int vm_cpu_decode(struct vm_cpu *out, const void *p, size_t len, struct lb_err *err)
{
	if (*(const char *)p == '!')
		return lb_err_set(err, LB_ECORRUPT, 0, "no CPU template");
	*out = (struct vm_cpu){.count = (uint32_t)len};
	return 0;
}

int vm_state_peek(struct vm_state_info *out, const void *state, size_t len, struct lb_err *err)
{
	struct lb_rd rd = lb_rd_init(state, len);

	*out = (struct vm_state_info){.ram_bytes = 2 << 20, .vcpus = 1};
	if (lb_rd_u32le(&rd) != STATE_MAGIC || lb_rd_bytes(&rd, 8) == NULL)
		return lb_err_set(err, LB_ECORRUPT, 0, "checkpoint is none of a fake machine");
	out->disks = lb_rd_u32le(&rd);
	for (size_t i = 0; i < out->disks && i < VM_DISKS_MAX; i++) {
		out->bus[i] = (enum vm_disk_bus)lb_rd_u8(&rd);
		out->disk_bytes[i] = lb_rd_u64le(&rd);
	}
	if (out->disks > VM_DISKS_MAX || !lb_rd_done(&rd))
		return lb_err_set(err, LB_ECORRUPT, 0, "checkpoint of a fake machine is torn");
	return 0;
}

size_t vm_restore_order(struct vm *vm, uint32_t *out, size_t cap)
{
	size_t n = vm->order_count;

	if (vm->cfg.restore == NULL || cap < n + 2)
		return 0;
	memcpy(out, vm->order, n * sizeof(*out)); /* as a real one: what it was given comes first */
	out[n] = 7;
	out[n + 1] = 3;
	return n + 2;
}

/* ---- net.h ---- */

static int net_create(struct vm_net **out, int fd, struct lb_err *err)
{
	*out = calloc(1, sizeof(**out));
	if (*out == NULL)
		return lb_err_set(err, LB_ENOMEM, 0, "NIC");
	(*out)->fd = fd;
	return 0;
}

int vm_net_tap(struct vm_net **out, int fd, struct lb_err *err)
{
	return net_create(out, fd, err);
}

int vm_net_null(struct vm_net **out, struct lb_err *err)
{
	return net_create(out, -1, err);
}

int vm_net_hold(struct vm_net **out, struct vm_net *lower, uint64_t max_bytes, struct lb_err *err)
{
	(void)lower;
	(void)max_bytes;
	return net_create(out, -1, err);
}

void vm_net_hold_cut(struct vm_net *hold, uint64_t seq)
{
	hold->cut_bytes += hold->uncut_bytes;
	hold->uncut_bytes = 0;
	hold->cut_seq = seq;
}

void vm_net_hold_ack(struct vm_net *hold, uint64_t seq)
{
	if (hold->cut_seq != 0 && seq >= hold->cut_seq)
		hold->cut_bytes = 0;
}

uint64_t vm_net_held_bytes(struct vm_net *hold)
{
	return hold->uncut_bytes + hold->cut_bytes;
}

void vm_net_announce(struct vm_net *n, const uint8_t mac[6])
{
	(void)n;
	(void)mac;
}

void vm_net_destroy(struct vm_net *n)
{
	if (n != NULL && n->fd >= 0)
		(void)close(n->fd);
	free(n);
}
