/*
 * sim.replication: seeds A-B, two at a time. Exit 0 when every invariant held in all of them.
 *
 *   --seeds A-B   run these (default 1-100)
 *   --seed N      run one, and tell what happens in it
 *   --cuts N      cuts in each (default 200), --faults N likewise (default 20)
 *   --jobs N      processes (default 2)
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "sim.h"

struct options {
	uint64_t first, last;
	unsigned cuts, faults, jobs;
	bool one;
};
struct total {
	struct sim_counts c;
	uint64_t seeds, failed, least_cuts, least_faults;
};

static void add(struct total *t, const struct sim_counts *c)
{
	const uint64_t *from = (const uint64_t *)c;
	uint64_t *to = (uint64_t *)&t->c;
	uint64_t error = t->c.age_error_max_ns;

	for (size_t i = 0; i < sizeof(*c) / sizeof(*from); i++)
		to[i] += from[i];
	t->c.age_error_max_ns = c->age_error_max_ns > error ? c->age_error_max_ns : error;
	t->seeds++;
	if (t->least_cuts == 0 || c->cuts < t->least_cuts)
		t->least_cuts = c->cuts;
	if (t->least_faults == 0 || c->faults < t->least_faults)
		t->least_faults = c->faults;
}

static void run_share(struct total *t, const struct options *o, unsigned job)
{
	for (uint64_t seed = o->first + job; seed <= o->last; seed += o->jobs) {
		struct sim_opts so = {
			.seed = seed, .cuts = o->cuts, .faults = o->faults, .verbose = o->one};
		struct sim_result r;

		if (sim_run(&r, &so) != 0) {
			printf("seed %" PRIu64 ": %s\n", seed, r.violation);
			(void)fflush(stdout);
			t->failed++;
		}
		add(t, &r.count);
	}
}

static void print_counts(const struct total *t)
{
	static const char *const name[] = {
#define SIM_FAULT_NAME(name) #name,
		SIM_FAULTS(SIM_FAULT_NAME)
#undef SIM_FAULT_NAME
	};
	const struct sim_counts *c = &t->c;

	printf("faults:");
	for (unsigned i = 0; i < FAULT_COUNT; i++)
		printf(" %s %" PRIu64, name[i], c->fault[i]);
	printf("\n%" PRIu64 " seeds, %" PRIu64 " violated; each at least %" PRIu64
	       " cuts and %" PRIu64 " faults\n",
	       t->seeds, t->failed, t->least_cuts, t->least_faults);
	printf("cuts %" PRIu64 ", visible %" PRIu64 ", acked %" PRIu64 " (%" PRIu64
	       " without receipt), abandoned %" PRIu64 ", refused %" PRIu64 ", resyncs %" PRIu64
	       ", fenced %" PRIu64 ", suspect stores %" PRIu64 ", sessions %" PRIu64 "\n",
	       c->cuts, c->points, c->acked, c->acked_by_status, c->abandoned, c->refused,
	       c->resyncs, c->fenced, c->suspects, c->sessions);
	printf("parts %" PRIu64 ", resent %" PRIu64 ", not resent because held %" PRIu64
	       ", resent though held %" PRIu64 ", stored twice %" PRIu64 "\n",
	       c->parts, c->resent, c->skipped, c->resent_held, c->duplicates);
	printf("RAM blocks: data %" PRIu64 " (%" PRIu64 " of them twice), refs %" PRIu64
	       ", patches %" PRIu64 "; sent in full beside a delta %" PRIu64 " times\n",
	       c->ram_data, c->ram_twice, c->refs, c->patches, c->ram_full);
	printf("seeds begun %" PRIu64 ", killed in %" PRIu64 ", gone on with a draft %" PRIu64
	       " (%" PRIu64 " could not); of %" PRIu64 " blocks of them %" PRIu64
	       " were kept, packs filled %" PRIu64 "\n",
	       c->seeds, c->seed_kills, c->drafts, c->drafts_dropped, c->seed_blocks, c->kept,
	       c->filled);
	printf("images compared %" PRIu64 ", ages checked %" PRIu64 " (unknown %" PRIu64
	       ", largest over-estimate %" PRIu64 " ms), events %" PRIu64 ", virtual time %" PRIu64
	       " s\n",
	       c->images, c->ages, c->age_unknown, c->age_error_max_ns / MS, c->events,
	       c->virtual_ns / SEC);
}

static bool parse_u64(const char *text, uint64_t *out, const char **end)
{
	char *e;

	*out = strtoull(text, &e, 10);
	*end = e;
	return e != text;
}

static bool parse(struct options *o, int argc, char **argv)
{
	for (int i = 1; i + 1 < argc; i += 2) {
		const char *end;
		uint64_t n;

		if (!parse_u64(argv[i + 1], &n, &end))
			return false;
		if (strcmp(argv[i], "--seed") == 0) {
			o->first = o->last = n;
			o->one = true;
			o->jobs = 1;
		} else if (strcmp(argv[i], "--seeds") == 0 && *end == '-') {
			o->first = n;
			if (!parse_u64(end + 1, &o->last, &end))
				return false;
		} else if (strcmp(argv[i], "--cuts") == 0) {
			o->cuts = (unsigned)n;
		} else if (strcmp(argv[i], "--faults") == 0) {
			o->faults = (unsigned)n;
		} else if (strcmp(argv[i], "--jobs") == 0 && n > 0 && n <= 64) {
			o->jobs = (unsigned)n;
		} else {
			return false;
		}
	}
	return argc % 2 == 1;
}

static int run_all(struct total *sum, const struct options *o)
{
	struct total *share = mmap(NULL, o->jobs * sizeof(*share), PROT_READ | PROT_WRITE,
				   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int bad = 0;

	if (share == MAP_FAILED)
		return 1;
	for (unsigned j = 0; j < o->jobs; j++) {
		pid_t pid = fork();

		if (pid == 0) {
			run_share(&share[j], o, j);
			(void)fflush(stdout);
			_exit(share[j].failed ? 1 : 0);
		}
		if (pid < 0)
			bad = 1;
	}
	for (int status; wait(&status) > 0;)
		bad |= status != 0;
	for (unsigned j = 0; j < o->jobs; j++) {
		uint64_t seeds = sum->seeds, failed = sum->failed;

		if (share[j].seeds == 0)
			continue;
		add(sum, &share[j].c);
		sum->seeds = seeds + share[j].seeds;
		sum->failed = failed + share[j].failed;
		if (j == 0 || share[j].least_cuts < sum->least_cuts)
			sum->least_cuts = share[j].least_cuts;
		if (j == 0 || share[j].least_faults < sum->least_faults)
			sum->least_faults = share[j].least_faults;
	}
	return bad;
}

int main(int argc, char **argv)
{
	struct options o = {.first = 1, .last = 100, .cuts = 200, .faults = 20, .jobs = 2};
	struct total t = {.seeds = 0};
	struct timespec a, b;
	double seconds;
	int bad;

	if (!parse(&o, argc, argv)) {
		(void)fprintf(stderr, "usage: sim_replication [--seed N | --seeds A-B] [--cuts N] "
				      "[--faults N] [--jobs N]\n");
		return 2;
	}
	(void)clock_gettime(CLOCK_MONOTONIC, &a);
	if (o.one) {
		run_share(&t, &o, 0);
		bad = t.failed != 0;
	} else {
		bad = run_all(&t, &o);
	}
	(void)clock_gettime(CLOCK_MONOTONIC, &b);
	seconds = (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) / 1e9;
	print_counts(&t);
	printf("%.1f seeds/s\n", (double)t.seeds / (seconds > 0 ? seconds : 1));
	return bad;
}
