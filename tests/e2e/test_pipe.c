#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "rnd.h"

/*
 * The two engines as two processes over loopback TLS (tests/bench/pipe_main.c), killed at chosen
 * operations. argv[1] is the pipe program. Nothing waits for time: what the children print drives
 * the test.
 */

static const char *pipe_path;

struct fixture {
	char dir[64];
	uint64_t rnd;
};

struct child {
	pid_t pid;
	FILE *out; /* its stdout and stderr */
	int status;
};

#define LINE 512

static const char *in_dir(const struct fixture *x, const char *name)
{
	static char text[4][128];
	static unsigned turn;
	char *out = text[turn++ % 4];

	(void)snprintf(out, 128, "%s/%s", x->dir, name);
	return out;
}

static struct child start(const char *const *arg)
{
	const char *argv[24] = {pipe_path};
	struct child c = {0};
	int fd[2];

	for (unsigned i = 0; arg[i] != NULL; i++) {
		assert_true(i < 22);
		argv[i + 1] = arg[i];
	}
	assert_int_equal(pipe2(fd, O_CLOEXEC), 0);
	(void)fflush(stdout);
	c.pid = fork();
	assert_true(c.pid >= 0);
	if (c.pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* a failed test leaves nobody behind */
		(void)dup2(fd[1], STDOUT_FILENO);
		(void)dup2(fd[1], STDERR_FILENO);
		(void)execv(pipe_path, (char *const *)(uintptr_t)argv);
		_exit(127);
	}
	(void)close(fd[1]);
	c.out = fdopen(fd[0], "r");
	assert_non_null(c.out);
	return c;
}

/* Wait for the end; true: by exit(0). */
static bool finish(struct child *c)
{
	char line[LINE];

	while (fgets(line, sizeof(line), c->out) != NULL)
		;
	(void)fclose(c->out);
	assert_int_equal(waitpid(c->pid, &c->status, 0), c->pid);
	c->pid = 0;
	return WIFEXITED(c->status) && WEXITSTATUS(c->status) == 0;
}

static bool killed(const struct child *c)
{
	return WIFSIGNALED(c->status) && WTERMSIG(c->status) == SIGKILL;
}

/* Read up to a line that begins with @word; false: the child ended before. */
static bool expect(struct child *c, const char *word, char line[LINE])
{
	while (fgets(line, LINE, c->out) != NULL) {
		if (strncmp(line, word, strlen(word)) == 0)
			return true;
	}
	return false;
}

static struct child target_start(struct fixture *x, const char *listen, const char *kill_at)
{
	return start((const char *[]){"--listen", listen, "--kill-at", kill_at, "target", x->dir,
				      in_dir(x, "store"), NULL});
}

static void target_port(struct child *t, char port[8])
{
	char line[LINE];
	unsigned n = 0;

	assert_true(expect(t, "port ", line));
	assert_int_equal(sscanf(line, "port %u", &n), 1);
	(void)snprintf(port, 8, "%u", n);
}

static void target_stop(struct child *t)
{
	assert_int_equal(kill(t->pid, SIGTERM), 0);
	assert_true(finish(t));
}

/* An image of data of which some is zero; returns the bytes that are not. */
static uint64_t image_make(struct fixture *x, uint64_t bytes)
{
	static uint8_t chunk[65536];
	FILE *f = fopen(in_dir(x, "image"), "w");
	uint64_t data = 0;

	assert_non_null(f);
	for (uint64_t off = 0; off < bytes; off += sizeof(chunk)) {
		rnd_fill(&x->rnd, chunk, sizeof(chunk));
		data += sizeof(chunk);
		if (rnd_below(&x->rnd, 8) == 0) {
			memset(chunk, 0, sizeof(chunk));
			data -= sizeof(chunk);
		}
		assert_int_equal(fwrite(chunk, sizeof(chunk), 1, f), 1);
	}
	assert_int_equal(fclose(f), 0);
	return data;
}

static void image_change(struct fixture *x, unsigned times)
{
	int fd = open(in_dir(x, "image"), O_RDWR | O_CLOEXEC);
	uint8_t block[4096];
	struct stat st;

	assert_true(fd >= 0 && fstat(fd, &st) == 0);
	for (unsigned i = 0; i < times; i++) {
		off_t at = (off_t)(rnd_below(&x->rnd, (uint64_t)st.st_size / 4096) * 4096);

		rnd_fill(&x->rnd, block, i % 4 == 3 ? 100 : sizeof(block));
		if (i % 5 == 4)
			memset(block, 0, sizeof(block));
		assert_int_equal(pwrite(fd, block, sizeof(block), at), sizeof(block));
	}
	(void)close(fd);
}

static bool same_file(const char *a, const char *b)
{
	char cmd[300];

	(void)snprintf(cmd, sizeof(cmd), "cmp -s %s %s", a, b);
	return system(cmd) == 0;
}

/* The newest point, written to a file, is the image, bit by bit. */
static void check_newest(struct fixture *x, unsigned points)
{
	char line[LINE], hash[80] = "", got[80];
	unsigned n = 0;
	struct child c = start((const char *[]){"points", x->dir, in_dir(x, "store"), NULL});

	while (expect(&c, "point ", line)) {
		if (sscanf(line, "point %*u %79s", got) == 1)
			memcpy(hash, got, sizeof(hash));
		n++;
	}
	assert_true(finish(&c));
	if (points != 0)
		assert_int_equal(n, points);
	(void)unlink(in_dir(x, "out"));
	c = start((const char *[]){"export", x->dir, in_dir(x, "store"), hash, in_dir(x, "out"),
				   NULL});
	assert_true(finish(&c));
	assert_true(same_file(in_dir(x, "out"), in_dir(x, "image")));
}

static int setup(void **state)
{
	struct fixture *x = calloc(1, sizeof(*x));
	struct child c;

	assert_non_null(x);
	x->rnd = 7;
	(void)snprintf(x->dir, sizeof(x->dir), "/tmp/lb-test-pipe-XXXXXX");
	assert_non_null(mkdtemp(x->dir));
	c = start((const char *[]){"init", x->dir, NULL});
	assert_true(finish(&c));
	*state = x;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *x = *state;
	char cmd[96];

	(void)snprintf(cmd, sizeof(cmd), "rm -rf %s", x->dir);
	assert_int_equal(system(cmd), 0);
	free(x);
	return 0;
}

static struct child source_start(struct fixture *x, const char *port, const char *points,
				 const char *kill_at)
{
	return start((const char *[]){"--points", points, "--kill-at", kill_at, "--seed-pack",
				      "65536", "source", x->dir, in_dir(x, "image"),
				      in_dir(x, "state"), port, NULL});
}

static void test_seed_and_deltas(void **state)
{
	struct fixture *x = *state;
	struct child t, s;
	char port[8];

	(void)image_make(x, 20u << 20);
	t = target_start(x, "0", "0");
	target_port(&t, port);
	for (unsigned i = 0; i < 4; i++) {
		char line[LINE];
		unsigned long long read = 0, changed = 0, shipped = 0;

		s = source_start(x, port, "1", "0");
		assert_true(expect(&s, "stats ", line));
		assert_true(finish(&s));
		assert_int_equal(sscanf(line, "stats read %llu changed %llu shipped %llu", &read,
					&changed, &shipped),
				 3);
		if (i > 0) /* a delta: the 50 blocks and not much more */
			assert_true(changed <= 50 * 4096 && shipped < 60 * 4096);
		if (i < 3)
			image_change(x, 50);
	}
	target_stop(&t);
	check_newest(x, 4);
}

static struct child memory_source(struct fixture *x, const char *port, const char *boot,
				  const char *points, const char *kill_at)
{
	return start((const char *[]){"--points", points, "--kill-at", kill_at, "--ram", "8388608",
				      "--dirty", "60", "--boot", boot, "--seed-pack", "65536",
				      "source", x->dir, in_dir(x, "image"), in_dir(x, "state"),
				      port, NULL});
}

/* Every point's RAM, through its refs and patches, is what its device state says. */
static void check_memory(struct fixture *x, unsigned points_min)
{
	struct child c = start((const char *[]){"memory", x->dir, in_dir(x, "store"), NULL});
	unsigned points = 0, torn = 99;
	char line[LINE];

	assert_true(expect(&c, "checked ", line));
	assert_int_equal(sscanf(line, "checked %u points, %u torn", &points, &torn), 2);
	assert_true(finish(&c));
	assert_int_equal(torn, 0);
	assert_true(points >= points_min);
}

static void memory_run(struct fixture *x, const char *port, const char *boot,
		       unsigned long long block[4])
{
	struct child s = memory_source(x, port, boot, "20", "0");
	char line[LINE];

	while (expect(&s, "", line) && strncmp(line, "blocks ", 7) != 0)
		assert_null(strstr(line, "resync"));
	assert_true(finish(&s));
	assert_int_equal(sscanf(line, "blocks data %llu zero %llu ref %llu patch %llu", &block[0],
				&block[1], &block[2], &block[3]),
			 4);
	(void)printf("%s", line);
}

/* A disk and RAM that changes as a guest's does, 20 points of both; then a restart without shadow;
 * then another boot: RAM in full, the disk not. */
static void test_memory(void **state)
{
	struct fixture *x = *state;
	unsigned long long full[4], restart[4], reboot[4];
	struct child t;
	char port[8];

	(void)image_make(x, 4u << 20);
	t = target_start(x, "0", "0");
	target_port(&t, port);
	memory_run(x, port, "1", full);
	memory_run(x, port, "1", restart);
	memory_run(x, port, "2", reboot);
	target_stop(&t);
	/* 60 % of the changes are of few words; of the others some are taken back or moved */
	assert_true(full[3] > 19 * 60 / 2 && full[2] > 0 && full[1] > 0);
	assert_true(restart[0] < full[0] / 2 && restart[3] > 19 * 60 / 2);
	assert_true(reboot[0] > 1000 && reboot[0] + 700 < full[0]);
	check_memory(x, 60);
	check_newest(x, 60);
}

/* Points that were told. A receipt that was told, but not noted durably before the source died, is
 * told again after its restart: that is the same point. */
struct acks {
	unsigned points, again;
	unsigned long long last;
};

static void ack_note(struct acks *a, const char *line)
{
	unsigned long long seq = 0;

	assert_int_equal(sscanf(line, "acked %llu", &seq), 1);
	assert_true(seq >= a->last);
	a->again += seq == a->last;
	a->points += seq > a->last;
	a->last = seq;
}

/* Until @s ended. */
static void acks_count(struct acks *a, struct child *s)
{
	char line[LINE];

	while (expect(s, "acked ", line))
		ack_note(a, line);
}

/* Either end dies in mid-cut, again and again; the RAM of every point that got through is whole. */
static void test_memory_kills(void **state)
{
	struct fixture *x = *state;
	struct child t, s;
	struct acks acked = {.points = 0};
	char port[8], number[16];

	(void)image_make(x, 1u << 20);
	t = target_start(x, "0", "0");
	target_port(&t, port);
	s = memory_source(x, port, "1", "3", "0");
	acks_count(&acked, &s);
	assert_true(finish(&s));
	for (unsigned run = 0; run < 6; run++) {
		(void)snprintf(number, sizeof(number), "%u",
			       (unsigned)(150 + rnd_below(&x->rnd, 250)));
		s = memory_source(x, port, run % 3 == 2 ? "2" : "1", "1000", number);
		acks_count(&acked, &s);
		assert_false(finish(&s));
		assert_true(killed(&s));
	}
	target_stop(&t);
	t = target_start(x, port, "50");
	s = memory_source(x, port, "1", "20", "0");
	for (unsigned run = 0; run < 6; run++) {
		assert_false(finish(&t));
		assert_true(killed(&t));
		(void)snprintf(number, sizeof(number), "%u",
			       (unsigned)(20 + rnd_below(&x->rnd, 40)));
		t = target_start(x, port, run < 5 ? number : "0");
	}
	acks_count(&acked, &s);
	assert_true(finish(&s));
	target_stop(&t);
	(void)printf("%u points acknowledged, %u told twice\n", acked.points, acked.again);
	assert_true(acked.points > 3 + 19);
	check_memory(x, acked.points);
	check_newest(x, 0);
}

static void refused(struct fixture *x, const char *port, const char *cert, const char *text)
{
	struct child s =
		start((const char *[]){"--cert", cert, "--once", "source", x->dir,
				       in_dir(x, "image"), in_dir(x, "state"), port, NULL});
	char line[LINE], last[LINE] = "";

	while (expect(&s, "pipe: ", line))
		memcpy(last, line, sizeof(last));
	assert_false(finish(&s));
	assert_false(killed(&s));
	if (strstr(last, text) == NULL)
		fail_msg("certificate %s: %s, expected %s", cert, last, text);
}

static void test_certificates(void **state)
{
	struct fixture *x = *state;
	struct child t;
	char port[8];

	(void)image_make(x, 1u << 20);
	t = target_start(x, "0", "0");
	target_port(&t, port);
	refused(x, port, "expired", "certificate has expired");
	refused(x, port, "foreign", "foreign CA");
	refused(x, port, "missing", "no readable PEM certificate");
	refused(x, port, "stranger", "this site may not connect");
	target_stop(&t);
	/* The target is somebody else of the same deployment. */
	t = start(
		(const char *[]){"--cert", "stranger", "target", x->dir, in_dir(x, "store"), NULL});
	target_port(&t, port);
	refused(x, port, "a", "certificate is of another site");
	target_stop(&t);
}

/* The target dies 50 times in the middle of what it stores; the source goes on. */
static void test_kill_target(void **state)
{
	struct fixture *x = *state;
	struct child t, s;
	unsigned kills = 0;
	unsigned long long held = 99;
	char port[8], line[LINE], number[16];

	(void)image_make(x, 24u << 20);
	t = target_start(x, "0", "40");
	target_port(&t, port);
	s = source_start(x, port, "1", "0");
	for (;;) {
		assert_false(finish(&t));
		assert_true(killed(&t));
		if (++kills == 50)
			break;
		(void)snprintf(number, sizeof(number), "%u",
			       (unsigned)(6 + rnd_below(&x->rnd, 12)));
		t = target_start(x, port, number);
	}
	t = target_start(x, port, "0");
	assert_true(expect(&s, "stats ", line));
	assert_non_null(strstr(line, "resent_held "));
	assert_int_equal(sscanf(strstr(line, "resent_held "), "resent_held %llu", &held), 1);
	assert_true(finish(&s));
	target_stop(&t);
	(void)printf("%u kills, %llu parts sent again though held\n", kills, held);
	assert_true(held <= 2);
	check_newest(x, 1);
}

/* Bytes of parts that reached the target since it started, which ends it. */
static unsigned long long target_taken(struct child *t)
{
	unsigned long long bytes = 0;
	char line[LINE];

	assert_int_equal(kill(t->pid, SIGTERM), 0);
	assert_true(expect(t, "stats ", line));
	assert_int_equal(sscanf(line, "stats records %*u bytes %llu", &bytes), 1);
	assert_true(finish(t));
	return bytes;
}

#define SEED_BYTES (40ull << 20)
#define SEED_KILLS 20u
#define CHANGES    30u /* blocks between two attempts */

/* The source dies 20 times in its seed, the image changes each time: what stands at the target is
 * not sent again, and the point is the last cut, bit by bit. */
static void test_kill_seed(void **state)
{
	struct fixture *x = *state;
	unsigned long long taken, kept = 0, data;
	struct child t, s;
	char port[8], line[LINE], number[16];

	data = image_make(x, SEED_BYTES);
	t = target_start(x, "0", "0");
	target_port(&t, port);
	for (unsigned run = 0; run <= SEED_KILLS; run++) {
		/* A read of what is kept is one operation, a pack more is another. */
		(void)snprintf(number, sizeof(number), "%u",
			       run < SEED_KILLS ? (unsigned)(90 + 14 * run + rnd_below(&x->rnd, 60))
						: 0);
		s = start((const char *[]){"--points", "1", "--kill-at", number, "--seed-pack",
					   "65536", "--window", "262144", "source", x->dir,
					   in_dir(x, "image"), in_dir(x, "state"), port, NULL});
		if (run == SEED_KILLS) {
			assert_true(expect(&s, "blocks ", line));
			assert_int_equal(sscanf(strstr(line, "kept"), "kept %llu", &kept), 1);
		}
		assert_true(finish(&s) == (run == SEED_KILLS));
		assert_true(run == SEED_KILLS || killed(&s));
		if (run < SEED_KILLS)
			image_change(x, CHANGES);
	}
	taken = target_taken(&t);
	(void)printf(
		"%u kills: %llu KiB taken by the target, for %llu KiB of data; %llu KiB of them "
		"stood there before the last attempt\n",
		SEED_KILLS, taken >> 10, data >> 10, kept * 4);
	/* Again only: what changed, the packs on their way at a kill, the ends that were told. */
	assert_true(kept * 4096 > data / 2);
	assert_true(taken < data + (uint64_t)SEED_KILLS * (CHANGES * 4096 + 3 * 262144));
	check_newest(x, 1);
}

/* All blocks of the image say which generation wrote them. */
static void generation_write(struct fixture *x, uint64_t generation, unsigned blocks)
{
	int fd = open(in_dir(x, "image"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	uint8_t block[4096];

	assert_true(fd >= 0);
	rnd_fill(&x->rnd, block, sizeof(block));
	for (unsigned i = 0; i < blocks; i++) {
		memcpy(block, &generation, sizeof(generation));
		memcpy(block + 8, &i, sizeof(i));
		assert_int_equal(pwrite(fd, block, sizeof(block), (off_t)i * 4096), sizeof(block));
	}
	(void)close(fd);
}

/* The source dies 50 times while the image is written under its hands, also in mid-scan. */
static void test_kill_source(void **state)
{
	struct fixture *x = *state;
	struct child t, s;
	uint64_t generation = 1;
	struct acks acked = {.points = 0};
	unsigned changed = 0, checked = 0, torn = 99;
	char port[8], line[LINE], number[16];

	generation_write(x, generation, 512);
	t = target_start(x, "0", "0");
	target_port(&t, port);
	for (unsigned run = 0; run <= 50; run++) {
		(void)snprintf(number, sizeof(number), "%u",
			       run < 50 ? (unsigned)(5 + rnd_below(&x->rnd, 70)) : 0);
		s = start((const char *[]){"--points", run < 50 ? "1000" : "2", "--checked",
					   "--interval-ms", "1", "--kill-at", number, "source",
					   x->dir, in_dir(x, "image"), in_dir(x, "state"), port,
					   NULL});
		while (expect(&s, "", line)) {
			bool is_acked = strncmp(line, "acked", 5) == 0;

			if (is_acked)
				ack_note(&acked, line);
			changed += strstr(line, "was written meanwhile") != NULL;
			if (is_acked ||
			    (strncmp(line, "cut", 3) == 0 && rnd_below(&x->rnd, 3) == 0))
				generation_write(x, ++generation, 512);
		}
		assert_true(finish(&s) == (run == 50));
		assert_true(run == 50 || killed(&s));
	}
	target_stop(&t);
	s = start((const char *[]){"torn", x->dir, in_dir(x, "store"), NULL});
	assert_true(expect(&s, "checked ", line));
	assert_int_equal(sscanf(line, "checked %u points, %u torn", &checked, &torn), 2);
	assert_true(finish(&s));
	(void)printf("50 kills, %u generations, %u cuts given up as changed, %u acked, %u told "
		     "twice, %u points, %u torn\n",
		     (unsigned)generation, changed, acked.points, acked.again, checked, torn);
	assert_int_equal(torn, 0);
	assert_true(checked >= acked.points && checked >= 10 && changed > 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_seed_and_deltas, setup, teardown),
		cmocka_unit_test_setup_teardown(test_memory, setup, teardown),
		cmocka_unit_test_setup_teardown(test_memory_kills, setup, teardown),
		cmocka_unit_test_setup_teardown(test_certificates, setup, teardown),
		cmocka_unit_test_setup_teardown(test_kill_target, setup, teardown),
		cmocka_unit_test_setup_teardown(test_kill_seed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_kill_source, setup, teardown),
	};

	if (argc != 2 && argc != 3) {
		(void)fprintf(stderr, "usage: test_pipe PIPE [TEST]\n");
		return 2;
	}
	if (argc == 3)
		cmocka_set_test_filter(argv[2]);
	pipe_path = argv[1];
	return cmocka_run_group_tests(tests, NULL, NULL);
}
