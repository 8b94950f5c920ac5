/*
 * pipe_kill.h - counts what a process does to its disks, and kills it at a given operation.
 *
 * SIGKILL at operation n of the process is the power button of one program: what the kernel has is
 * kept, everything else is gone. Counted: every operation of the file system, every read of the
 * device. One counter a process. Thread: any.
 */
#ifndef TESTS_PIPE_KILL_H
#define TESTS_PIPE_KILL_H

#include <stdint.h>

struct lb_err;
struct lb_file;
struct lb_fs;
struct img_dev;

/* Takes @fs. @kill_at 0: never. @sync (may be NULL) takes the place of every file's sync. */
struct lb_fs *pipe_kill_fs(struct lb_fs *fs, uint64_t kill_at,
			   int (*sync)(struct lb_file *f, struct lb_err *err));
/* Borrows @dev. */
struct img_dev *pipe_kill_dev(struct img_dev *dev);
uint64_t pipe_kill_ops(void);

#endif
