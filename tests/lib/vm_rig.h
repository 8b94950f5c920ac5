/*
 * tests/lib/vm_rig.h - a lifeboat-vm process in a directory of its own, started as the agent starts
 * it. Watchdog: the process is killed by vm_rig_fini(), and by the kernel when the test dies.
 */
#ifndef TESTS_VM_RIG_H
#define TESTS_VM_RIG_H

#include <sys/types.h>

#include "vmcore/ctl.h"
#include "vmcore/launch.h"

struct vm_rig {
	char dir[64], path[96]; /* control socket */
	char beat[96], log[96];
	pid_t pid;
	struct vm_launch l; /* filled with a small machine; change it before vm_rig_launch() */
	int fd[VM_CTL_FDS_MAX];
	int log_fd;        /* its standard error, borrowed; 0: ours */
	struct lb_err err; /* why it did not start */
};

void vm_rig_init(struct vm_rig *r);
/* Adds a descriptor (taken) to the launch message. */
void vm_rig_fd(struct vm_rig *r, enum vm_launch_role role, uint32_t index, int fd);
/* Starts @program; 0, or the code it reported. */
int vm_rig_launch(struct vm_rig *r, const char *program);
/* Waits for the process (kills it first if @kill_it); returns waitpid's status. */
int vm_rig_wait(struct vm_rig *r, bool kill_it);
void vm_rig_fini(struct vm_rig *r);

#endif
