/*
 * siteagent/src/vmrun_int.h - lifeboat-vm processes: start one, find it again, end it.
 *
 *   DIR/vm.sock          its control socket (docs/vm-control.md), 0600
 *   DIR/vm.json          which process it is: pid, boot id, start time; written before it is told
 *                        what to run, so that no machine runs that nobody knows of
 *   DIR/vm.log           what it says
 *   DIR/serial.log       console, from this start on
 *   DIR/heartbeat.sock   org.lifeboat.heartbeat
 *   DIR/VOLUME.cow, VOLUME.cowmap: overlay (docs/formats/overlay.md)
 *   DIR/VOLUME.side, VOLUME.log: cuts of it (docs/formats/cutlog.md)
 *
 * It runs in a session of its own and outlives us; the next agent finds it by vm.json and its
 * socket. Who owns DIR ends it.
 *
 * Thread: blocking calls, any thread. Of one DIR, starts and ends wait for each other.
 */
#ifndef SITEAGENT_VMRUN_INT_H
#define SITEAGENT_VMRUN_INT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "vmcore/ctl.h"
#include "vmcore/launch.h"

struct lb_err;
struct sa_vmdesc;

struct sa_vmrun_disk {
	uint64_t size_bytes;
	const char *path; /* raw image or device; NULL: overlay over .view_socket */
	const char *view_socket;
	struct lb_hash point; /* that the view shows */
	bool logged;          /* keep a log of guest writes beside it: cuts can be taken */
};

struct sa_vmrun {
	const char *dir;                  /* private, exists, absolute */
	const char *program;              /* lifeboat-vm */
	const struct sa_vmdesc *desc;     /* names, sizes, buses; .name is the machine's here */
	const struct sa_vmrun_disk *disk; /* as many as desc has, same order */
	const char *firmware, *kernel, *initrd; /* files of this host; NULL: none */
	const void *cpu; /* encoded CPU template of a cold start; NULL: this host's */
	size_t cpu_bytes;
	const char *vga_firmware; /* NULL, "" or not there: no screen */
	/* Where its NICs go: see sa_hv_boot_cfg. Both NULL: nowhere. */
	const char *netns, *bridge;
	/* A checkpoint to go on from; NULL: cold boot. */
	const void *state;
	size_t state_bytes;
	const char *ram_socket; /* NBD view of its memory */
	const void *order;      /* with it, optional: of first touch, an earlier sa_vmrun_order() */
	size_t order_bytes;
	bool frozen_clock;     /* drill */
	bool announce;         /* failover */
	bool complement;       /* TEST ONLY */
	uint64_t commit_bytes; /* see vm_launch */
};

/* Errors: what lifeboat-vm says it could not do (its codes), LB_EBUSY (one runs in @dir),
 * LB_ENOTFOUND (a file, the program), LB_ETIMEDOUT. Then nothing runs. */
int sa_vmrun_start(const struct sa_vmrun *r, struct lb_err *err);
/* Its process is there (by vm.json; a pid that was given to another process since is noticed). */
bool sa_vmrun_alive(const char *dir, pid_t *pid);
/* A connection to it. LB_ENOTFOUND: none runs there. */
int sa_vmrun_open(struct vm_ctl **out, const char *dir, struct lb_err *err);
/* Power off, then SIGKILL if it does not end. Idempotent. LB_ETIMEDOUT: it will not die. LB_EBUSY:
 * a start or another end of it does not come to its end. */
int sa_vmrun_end(const char *dir, struct lb_err *err);
/* One request without arguments but @n. */
int sa_vmrun_ask(const char *dir, enum vm_ctl_type request, uint64_t n, enum vm_ctl_type want,
		 struct vm_ctl_msg *answer, struct lb_err *err);

/* In which order the machine in @dir, which went on from a checkpoint, touched its memory; *out is
 * the caller's: free(). LB_ENOTFOUND: it did not, or has touched nothing. */
int sa_vmrun_order(const char *dir, uint8_t **out, size_t *bytes, struct lb_err *err);

/* tap.c: a tap device @name in namespace @netns (or here), put into @bridge (or just up); it is
 * gone when its descriptor is closed. Errors: LB_EDENIED, LB_EIO. */
int sa_tap_open(int *fd, const char *name, const char *netns, const char *bridge,
		const char *log_path, struct lb_err *err);

#endif
