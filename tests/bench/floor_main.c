/*
 * floor IMAGE: what reading an image and hashing its blocks costs, and nothing else: pread of
 * 256 KiB and XXH3-128 of every 4 KiB, holes skipped, one thread. The limit that P8 compares with.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/hash.h"

#define READ_BYTES 262144

static uint8_t buf[READ_BYTES];

int main(int argc, char **argv)
{
	uint8_t secret[LB_XXH_SECRET_BYTES];
	struct lb_digest d;
	unsigned sum = 0;
	struct rusage u;
	off_t end, hole = 0;
	int fd = argc == 2 ? open(argv[1], O_RDONLY | O_CLOEXEC) : -1;

	if (fd < 0) {
		(void)fprintf(stderr, "usage: floor IMAGE\n");
		return 2;
	}
	for (unsigned i = 0; i < sizeof(secret); i++)
		secret[i] = (uint8_t)(i * 37);
	end = lseek(fd, 0, SEEK_END);
	for (off_t at = lseek(fd, 0, SEEK_DATA); at >= 0 && at < end;
	     at = lseek(fd, hole, SEEK_DATA)) {
		hole = lseek(fd, at, SEEK_HOLE);
		while (at < hole) {
			size_t want = hole - at < READ_BYTES ? (size_t)(hole - at) : READ_BYTES;
			ssize_t n = pread(fd, buf, want, at);

			if (n <= 0)
				return 1;
			for (ssize_t i = 0; i + 4096 <= n; i += 4096) {
				lb_xxh3(&d, buf + i, 4096, secret);
				sum += d.b[0];
			}
			at += n;
		}
	}
	(void)getrusage(RUSAGE_SELF, &u);
	(void)printf("usage floor cpu %.4f sum %u\n",
		     (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
			     (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6,
		     sum);
	(void)close(fd);
	return 0;
}
