/*
 * tests/crash/blocklog.h - a block device that remembers: writes and flushes in order.
 *
 * A FUSE file in RAM, served by a child process, under a loop device: what dm-log-writes would do.
 * Everything lives in a mount namespace of its own, on a tmpfs over /mnt, and loop devices are
 * AUTOCLEAR: when the last process of the test is gone, however it ended, nothing is left behind.
 */
#ifndef TESTS_CRASH_BLOCKLOG_H
#define TESTS_CRASH_BLOCKLOG_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define BLOCKLOG_DIR "/mnt"

/* An event in BLOCKLOG_DIR/log: this header, then @len bytes of a write. */
struct blocklog_event {
	uint64_t flush; /* 1: flush; 0: write */
	uint64_t off;
	uint64_t len;
};

/* NULL, or why this machine cannot do it (then skip). */
const char *blocklog_missing(void);
/* Private mount namespace, tmpfs, FUSE child serving BLOCKLOG_DIR/dev/disk of @bytes. Returns the
 * child's pid, or -1. */
pid_t blocklog_start(uint64_t bytes);
/* End of the log now. */
uint64_t blocklog_position(void);
/* Attach @path to a free loop device; fills @dev, returns its descriptor (close it after mounting:
 * the device goes with its last user), or -1. */
int blocklog_loop(const char *path, char dev[32]);

#endif
