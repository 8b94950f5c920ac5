/*
 * tests/guests/drwriter.c - the workload inside a test machine, and its judge after a failover.
 *
 * Appends 512-byte records to FILE, each holding the SHA-256 of the one before, each made durable
 * with fdatasync() before it is announced. So after any power cut, and on any replica of one
 * instant, the file must be a whole chain, at most followed by one torn record; more than that, or
 * a link that does not fit, is damage.
 *
 * With a MIRROR (a second disk, no file system) each record is written there too, after it is
 * durable in FILE and durable itself before the next one begins. So on any replica of one instant
 * the mirror ends with the chain's last record or with the one before: more is an effect without
 * its cause, less is a disk of another instant.
 *
 * On stdout (the serial console), one line each:
 *   LBW CHECK records=N last=HASH ok     at start: the whole chain was walked
 *   LBW PAIR records=N mirror=M ok       at start, with a mirror: it is of the same instant
 *   LBW BAD <what>                       at start: it is damaged; the writer stops there
 *   LBW seq=N hash=HASH                  record N is durable
 * On the virtio-serial port org.lifeboat.heartbeat, once a second: "beat N seq=N".
 * On TCP port 7007: each connection gets one line "LBW seq=N hash=HASH" and is closed.
 *
 * usage: drwriter FILE [INTERVAL_MS [MIRROR]]   write for ever
 *        drwriter -c FILE [MIRROR]               check only; exit 0 ok, 1 damaged
 *        drwriter -w COUNT FILE                  check, append COUNT records, exit 0
 */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "sha256.h"

enum {
	RECORD_BYTES = 512,
	HASH_BYTES = 32,
	ANSWER_PORT = 7007
};

static const char magic[8] = "LBWREC1\n";

struct record {
	char magic[8];
	uint64_t seq; /* from 1 */
	uint64_t wall_ns;
	uint8_t prev[HASH_BYTES]; /* hash of record seq - 1; zeros for the first */
	uint8_t fill[RECORD_BYTES - 24 - 2 * HASH_BYTES];
	uint8_t hash[HASH_BYTES]; /* over everything before it */
};
_Static_assert(sizeof(struct record) == RECORD_BYTES, "record layout");

struct writer {
	const char *path;
	int fd;
	int mirror; /* -1: none */
	uint64_t seq;
	uint8_t last[HASH_BYTES];
	int port; /* virtio-serial, -1 while there is none */
	uint64_t beats;
	int listener; /* -1: no network */
};

static uint64_t clock_ns(clockid_t clk)
{
	struct timespec ts;

	clock_gettime(clk, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static const char *hex(const uint8_t *p, char out[2 * HASH_BYTES + 1])
{
	for (unsigned i = 0; i < HASH_BYTES; i++)
		snprintf(out + 2 * i, 3, "%02x", p[i]);
	return out;
}

static void fatal(const char *what)
{
	printf("LBW BAD %s: %s\n", what, strerror(errno));
	exit(1);
}

static bool record_fits(const struct record *r, uint64_t seq, const uint8_t *prev)
{
	uint8_t h[HASH_BYTES];

	if (memcmp(r->magic, magic, sizeof magic) != 0 || r->seq != seq ||
	    memcmp(r->prev, prev, HASH_BYTES) != 0)
		return false;
	sha256(h, r, offsetof(struct record, hash));
	return memcmp(h, r->hash, HASH_BYTES) == 0;
}

/* Walk the chain from its start and take its end as ours. False: damaged, and said so. */
static bool check(struct writer *w)
{
	static struct record buf[128];
	struct stat st;
	uint64_t bytes;
	ssize_t got;
	char text[2 * HASH_BYTES + 1];

	if (fstat(w->fd, &st) != 0)
		fatal("fstat");
	bytes = (uint64_t)st.st_size;
	for (;;) {
		bool whole = true;

		got = pread(w->fd, buf, sizeof buf, (off_t)(w->seq * RECORD_BYTES));
		if (got < 0)
			fatal("read");
		for (size_t i = 0; whole && i < (size_t)got / RECORD_BYTES; i++) {
			whole = record_fits(&buf[i], w->seq + 1, w->last);
			if (!whole)
				break;
			memcpy(w->last, buf[i].hash, HASH_BYTES);
			w->seq++;
		}
		if (!whole || (size_t)got < sizeof buf)
			break;
	}
	if (bytes > (w->seq + 1) * RECORD_BYTES) {
		printf("LBW BAD chain breaks after seq=%" PRIu64 ", %" PRIu64
		       " bytes follow in %s\n",
		       w->seq, bytes - w->seq * RECORD_BYTES, w->path);
		return false;
	}
	printf("LBW CHECK records=%" PRIu64 " last=%s ok\n", w->seq, hex(w->last, text));
	return true;
}

/* Is record @seq of the chain on the mirror? */
static bool is_mirrored(struct writer *w, uint64_t seq)
{
	struct record own, copy;
	off_t at = (off_t)((seq - 1) * RECORD_BYTES);

	return pread(w->fd, &own, sizeof own, at) == (ssize_t)sizeof own &&
	       pread(w->mirror, &copy, sizeof copy, at) == (ssize_t)sizeof copy &&
	       memcmp(&own, &copy, sizeof own) == 0;
}

static bool check_mirror(struct writer *w)
{
	struct record r;
	uint64_t m = 0;

	while (m < w->seq && is_mirrored(w, m + 1))
		m++;
	/* Behind it nothing, not even a record the chain does not have. */
	if (pread(w->mirror, &r, sizeof r, (off_t)(m * RECORD_BYTES)) < 0)
		fatal("read the mirror");
	if (memcmp(r.magic, magic, sizeof magic) == 0 || m + 1 < w->seq) {
		printf("LBW BAD chain of %" PRIu64 " records, the mirror fits up to %" PRIu64
		       " and %s\n",
		       w->seq, m, memcmp(r.magic, magic, sizeof magic) == 0 ? "goes on" : "ends");
		return false;
	}
	printf("LBW PAIR records=%" PRIu64 " mirror=%" PRIu64 " ok\n", w->seq, m);
	return true;
}

static void write_mirror(struct writer *w, const struct record *r)
{
	if (pwrite(w->mirror, r, sizeof *r, (off_t)((r->seq - 1) * RECORD_BYTES)) !=
	    (ssize_t)sizeof *r)
		fatal("write the mirror");
	if (fdatasync(w->mirror) != 0)
		fatal("fdatasync of the mirror");
}

/* The last record may not have reached the mirror before the power went. */
static void complete_mirror(struct writer *w)
{
	struct record r;

	if (w->seq == 0 || is_mirrored(w, w->seq))
		return;
	if (pread(w->fd, &r, sizeof r, (off_t)((w->seq - 1) * RECORD_BYTES)) != (ssize_t)sizeof r)
		fatal("read the last record");
	write_mirror(w, &r);
}

static void append(struct writer *w)
{
	struct record r = {.seq = w->seq + 1, .wall_ns = clock_ns(CLOCK_REALTIME)};
	char text[2 * HASH_BYTES + 1];

	memcpy(r.magic, magic, sizeof magic);
	memcpy(r.prev, w->last, HASH_BYTES);
	memset(r.fill, (int)(r.seq & 0xff), sizeof r.fill);
	sha256(r.hash, &r, offsetof(struct record, hash));
	if (pwrite(w->fd, &r, sizeof r, (off_t)(w->seq * RECORD_BYTES)) != (ssize_t)sizeof r)
		fatal("write");
	if (fdatasync(w->fd) != 0)
		fatal("fdatasync");
	if (w->mirror >= 0)
		write_mirror(w, &r);
	w->seq = r.seq;
	memcpy(w->last, r.hash, HASH_BYTES);
	printf("LBW seq=%" PRIu64 " hash=%s\n", w->seq, hex(w->last, text));
}

/* Finds the port by name: there is no udev here that would make /dev/virtio-ports/. */
static int open_port(void)
{
	glob_t g;
	int fd = -1;

	if (glob("/sys/class/virtio-ports/*/name", 0, NULL, &g) != 0)
		return -1;
	for (size_t i = 0; fd < 0 && i < g.gl_pathc; i++) {
		char name[64] = "", dev[64] = "";
		FILE *f = fopen(g.gl_pathv[i], "re");

		if (f != NULL && fgets(name, sizeof name, f) != NULL &&
		    strcmp(name, "org.lifeboat.heartbeat\n") == 0 &&
		    sscanf(g.gl_pathv[i], "/sys/class/virtio-ports/%40[a-z0-9]", dev + 5) == 1) {
			memcpy(dev, "/dev/", 5);
			fd = open(dev, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
		}
		if (f != NULL)
			fclose(f);
	}
	globfree(&g);
	return fd;
}

static int open_listener(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(ANSWER_PORT)};
	int one = 1;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(fd, (struct sockaddr *)&a, sizeof a) != 0 || listen(fd, 4) != 0) {
		close(fd);
		return -1;
	}
	return fd;
}

static void beat(struct writer *w)
{
	char line[64];
	int n;

	if (w->port < 0)
		w->port = open_port();
	n = snprintf(line, sizeof line, "beat %" PRIu64 " seq=%" PRIu64 "\n", ++w->beats, w->seq);
	if (w->port >= 0 && write(w->port, line, (size_t)n) < 0) {
		/* Nobody listens on the host's side: the beat is lost, as it should be. */
	}
}

static void answer(struct writer *w)
{
	char line[128], text[2 * HASH_BYTES + 1];
	int n = snprintf(line, sizeof line, "LBW seq=%" PRIu64 " hash=%s\n", w->seq,
			 hex(w->last, text));
	int fd = accept(w->listener, NULL, NULL);

	if (fd < 0)
		return;
	if (write(fd, line, (size_t)n) < 0) {
		/* The asker went away. */
	}
	shutdown(fd, SHUT_WR);
	close(fd);
}

static void run(struct writer *w, uint64_t interval_ns)
{
	uint64_t next_record = clock_ns(CLOCK_MONOTONIC), next_beat = next_record;

	for (;;) {
		uint64_t now = clock_ns(CLOCK_MONOTONIC), next;
		struct pollfd p = {.fd = w->listener, .events = POLLIN};

		if (now >= next_record) {
			append(w);
			next_record = now + interval_ns;
		}
		if (now >= next_beat) {
			beat(w);
			next_beat = now + 1000000000u;
		}
		next = next_record < next_beat ? next_record : next_beat;
		now = clock_ns(CLOCK_MONOTONIC);
		if (poll(&p, 1, next > now ? (int)((next - now + 999999) / 1000000) : 0) > 0)
			answer(w);
	}
}

int main(int argc, char **argv)
{
	struct writer w = {.fd = -1, .mirror = -1, .port = -1, .listener = -1};
	bool check_only = argc >= 3 && strcmp(argv[1], "-c") == 0;
	bool counted = argc == 4 && strcmp(argv[1], "-w") == 0;
	const char *mirror = argc == 4 && !counted ? argv[3] : NULL;
	unsigned long interval_ms = 50;

	if (argc < 2 || argc > 4) {
		fprintf(stderr, "usage: drwriter FILE [INTERVAL_MS [MIRROR]] | "
				"drwriter -c FILE [MIRROR] | drwriter -w COUNT FILE\n");
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	w.path = counted ? argv[3] : check_only ? argv[2] : argv[1];
	w.fd = open(w.path, check_only ? O_RDONLY | O_CLOEXEC : O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	if (w.fd < 0)
		fatal(w.path);
	if (mirror != NULL)
		w.mirror = open(mirror, (check_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
	if (mirror != NULL && w.mirror < 0)
		fatal(mirror);
	if (!check(&w) || (w.mirror >= 0 && !check_mirror(&w)))
		return 1;
	if (check_only)
		return 0;
	if (argc >= 3)
		interval_ms = strtoul(argv[2], NULL, 10);
	if (ftruncate(w.fd, (off_t)(w.seq * RECORD_BYTES)) != 0 || fsync(w.fd) != 0)
		fatal("dropping the torn record");
	for (unsigned long n = counted ? strtoul(argv[2], NULL, 10) : 0; n > 0; n--)
		append(&w);
	if (counted)
		return 0;
	if (w.mirror >= 0)
		complete_mirror(&w);
	w.listener = open_listener();
	run(&w, (uint64_t)interval_ms * 1000000u);
}
