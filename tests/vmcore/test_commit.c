/*
 * The promise of COMMIT output: whatever anybody outside saw is explained by the restored point,
 * whenever the machine's process dies.
 *
 *   child: guest ─ bytes ─► hold ─(cut committed)─► outside     SIGKILL at any time
 *             └─ cut: changed pages, state ─► log ─► mark          │
 *   this process: replay the log up to the last mark, restore, go on ◄┘
 *
 * The guest's whole output is known (tests/guests/payload: the chain). Outside must hold a prefix
 * of it that is no longer than what the restored point had said, and the restored guest must
 * continue exactly there. Arguments: rounds, seed.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/env.h"
#include "base/err.h"
#include "check.h"
#include "kvm_guest.h"
#include "payload.h"
#include "vm_int.h"

#define LIMIT_NS UINT64_C(20000000000)
#define CMDLINE  "prog=chain steps=2000000 every=500 pages=256 seed=5"

enum {
	STEPS = 2000000,
	EVERY = 500,
	PAGES = 256,
	RAM_BYTES = 32 << 20,
	ROUNDS = 40,
	OUTPUT_MAX = 1 << 20,
	STATE_MAX = 1 << 20
};
#define LOG_BYTES (UINT64_C(256) << 20)

/* Shared by both processes: the link, the replica's disk, and the world outside. */
struct shared {
	_Atomic uint64_t outside_len; /* bytes anybody saw */
	_Atomic uint64_t marks;       /* committed cuts */
	_Atomic uint64_t log_len;     /* committed bytes of the log */
	char outside[OUTPUT_MAX];
	uint8_t log[];
};

/* In the log: this, then the pages (u32 numbers, then bytes), then the state. */
struct record {
	uint64_t pages, state_bytes;
	uint64_t said; /* bytes of output the guest had made at the cut */
};

static char *expected;

static char *chain_expected(void)
{
	struct payload_chain c = {.x = 5};
	uint64_t *table = calloc(PAGES * PAYLOAD_PAGE_WORDS, sizeof(*table));
	size_t cap = STEPS / EVERY * 40 + 200, len;
	char *out = malloc(cap);

	assert_non_null(out);
	assert_non_null(table);
	len = (size_t)snprintf(out, cap, "payload\n");
	for (int i = 0; i < STEPS; i++) {
		payload_chain_step(&c, table, PAGES * PAYLOAD_PAGE_WORDS);
		if (c.step % EVERY == 0)
			len += (size_t)snprintf(out + len, cap - len,
						"c %" PRIu64 " %016" PRIx64 "\n", c.step, c.h);
	}
	free(table);
	return out;
}

/* ---- the child: a protected machine ---- */

static void log_cut(struct shared *s, uint64_t *at, const struct vm_cut *c, const uint8_t *image,
		    uint64_t said)
{
	uint64_t pages = c->ram_bytes / VM_PAGE_BYTES;
	struct record r = {.state_bytes = c->state->len, .said = said};
	uint8_t *numbers, *to;

	for (uint64_t p = 0; p < pages; p++)
		r.pages += c->all_changed || (c->changed[p / 64] >> (p % 64) & 1) != 0;
	numbers = s->log + *at + sizeof(r);
	to = numbers + r.pages * sizeof(uint32_t);
	if (to + r.pages * VM_PAGE_BYTES + r.state_bytes > s->log + LOG_BYTES)
		_exit(3);
	memcpy(s->log + *at, &r, sizeof(r));
	for (uint32_t p = 0; p < pages; p++) {
		if (!c->all_changed && (c->changed[p / 64] >> (p % 64) & 1) == 0)
			continue;
		memcpy(numbers, &p, sizeof(p));
		memcpy(to, image + p * VM_PAGE_BYTES, VM_PAGE_BYTES);
		numbers += sizeof(p);
		to += VM_PAGE_BYTES;
	}
	memcpy(to, c->state->p, c->state->len);
	*at = (uint64_t)(to + c->state->len - s->log);
}

static void child_main(struct shared *s)
{
	struct vm_cfg cfg = VM_CFG_DEFAULTS;
	static struct kvm_guest g;
	struct lb_err err = {0};
	uint64_t at = 0;
	struct vm *vm;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	cfg.ram_bytes = RAM_BYTES;
	cfg.reset_stops = true;
	kvm_guest_init(&g, &cfg);
	vm = kvm_guest_payload(&cfg, CMDLINE);
	if (vm_start(vm, &err) != 0)
		_exit(1);
	for (;;) {
		struct vm_cut c;
		uint8_t *image;
		uint64_t said;

		if (vm_cut_hold(vm, LIMIT_NS, &err) != 0 ||
		    vm_cut_take(vm, &c, NULL, NULL, &err) != 0)
			_exit(2);
		said = g.serial_len; /* no vCPU runs: what was said belongs to this cut */
		vm_cut_resume(vm, &c);
		image = mmap(NULL, c.ram_bytes, PROT_READ, MAP_SHARED, c.ram_fd, 0);
		if (image == MAP_FAILED)
			_exit(1);
		log_cut(s, &at, &c, image, said);
		(void)munmap(image, c.ram_bytes);
		atomic_store(&s->log_len, at); /* committed: from here on it may be seen */
		atomic_fetch_add(&s->marks, 1);
		vm_cut_end(vm, true);
		memcpy(s->outside, g.serial, said);
		atomic_store(&s->outside_len, said);
	}
}

/* ---- this process: the backup ---- */

struct replica {
	uint8_t *image;
	const uint8_t *state;
	uint64_t state_bytes, said, cuts;
	int fd;
};

static void replay(struct replica *r, const struct shared *s, uint64_t log_len)
{
	uint64_t at = 0, bytes = vm_ram_volume_bytes(RAM_BYTES);

	r->fd = memfd_create("replica", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_int_equal(ftruncate(r->fd, (off_t)bytes), 0);
	r->image = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, 0);
	assert_true(r->image != MAP_FAILED);
	while (at < log_len) {
		struct record rec;
		const uint8_t *numbers = s->log + at + sizeof(rec), *from;

		memcpy(&rec, s->log + at, sizeof(rec));
		from = numbers + rec.pages * sizeof(uint32_t);
		for (uint64_t i = 0; i < rec.pages; i++, from += VM_PAGE_BYTES) {
			uint32_t page;

			memcpy(&page, numbers + i * sizeof(page), sizeof(page));
			memcpy(r->image + page * VM_PAGE_BYTES, from, VM_PAGE_BYTES);
		}
		r->state = from;
		r->state_bytes = rec.state_bytes;
		r->said = rec.said;
		r->cuts++;
		at = (uint64_t)(from + rec.state_bytes - s->log);
	}
	assert_int_equal(at, log_len);
	(void)munmap(r->image, bytes);
	assert_int_equal(fcntl(r->fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK), 0);
}

static void go_on(const struct replica *r)
{
	struct vm_restore restore = {
		.state = r->state,
		.state_bytes = r->state_bytes,
		.mode = VM_RESTORE_MAPPED,
		.ram_fd = r->fd,
	};
	struct vm_cfg cfg = VM_CFG_DEFAULTS;
	static struct kvm_guest g;
	struct lb_err err = {0};
	struct vm *vm = NULL;
	size_t len;

	cfg.ram_bytes = RAM_BYTES;
	cfg.reset_stops = true;
	cfg.restore = &restore;
	kvm_guest_init(&g, &cfg);
	if (vm_create(&vm, lb_env_real(), &cfg, &err) != 0 || vm_start(vm, &err) != 0)
		fail_msg("%s", err.msg);
	kvm_guest_wait_bytes(&g, 200);
	vm_stop(vm);
	len = g.serial_len;
	if (strncmp(g.serial, expected + r->said, len) != 0)
		fail_msg("after %" PRIu64 " bytes and cut %" PRIu64
			 " the guest went on with %.120s",
			 r->said, r->cuts, g.serial);
	vm_destroy(vm);
	kvm_guest_fini(&g);
}

/* Kill the child when @marks cuts are committed and a moment more has passed. */
static void kill_at(struct shared *s, pid_t pid, uint64_t marks, uint64_t spin)
{
	int status = 0;

	while (atomic_load(&s->marks) < marks) {
		if (waitpid(pid, &status, WNOHANG) != 0)
			fail_msg("child ended by itself: %d", status);
		(void)poll(NULL, 0, 1);
	}
	for (volatile uint64_t i = 0; i < spin; i++)
		;
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
}

static uint64_t next(uint64_t *x)
{
	*x = *x * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return *x >> 33;
}

static unsigned rounds = ROUNDS;
static uint64_t seed = 20240229;

static void test_killed_at_any_time(void **state)
{
	uint64_t most = 0;

	(void)state;
	for (unsigned round = 0; round < rounds; round++) {
		uint64_t bytes = sizeof(struct shared) + LOG_BYTES, seen;
		struct shared *s = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
					MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		uint64_t marks = 2 + next(&seed) % 12, spin = next(&seed) % 3000000;
		struct replica r = {0};
		pid_t pid;

		assert_true(s != MAP_FAILED);
		pid = fork();
		assert_true(pid >= 0);
		if (pid == 0)
			child_main(s);
		kill_at(s, pid, marks, spin);
		seen = atomic_load(&s->outside_len);
		replay(&r, s, atomic_load(&s->log_len));
		assert_true(r.cuts >= marks);
		/* Bytes behind .outside_len may have been put there by a write that was cut short.
		 */
		assert_memory_equal(s->outside, expected, seen);
		assert_true(seen <= r.said);
		most = seen > most ? seen : most;
		go_on(&r);
		(void)close(r.fd);
		(void)munmap(s, bytes);
	}
	assert_true(most > 0); /* something was let out at all */
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_killed_at_any_time)};

	if (argc > 1)
		rounds = (unsigned)strtoul(argv[1], NULL, 10);
	if (argc > 2)
		seed = strtoull(argv[2], NULL, 10);
	(void)kvm_guest_main(argc > 1 ? 3600 : 170);
	expected = chain_expected();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
