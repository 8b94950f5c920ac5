/*
 * vmcore/ctl.h - how a running lifeboat-vm is spoken with: frames over a unix socket.
 *
 *   client ── request (tag) ──► lifeboat-vm        one request of a connection at a time
 *          ◄── answer (same tag) ──                or VM_CTL_ERROR
 *          ◄── SERIAL_OUT, EVENT (tag 0) ──        once asked for, at any time
 *
 * SOCK_SEQPACKET: a datagram is a frame, so there is no half frame and no length to trust; the
 * descriptors that belong to a frame come with it (SCM_RIGHTS). docs/vm-control.md is the page of
 * it. The first frame of a connection is HELLO. Both ends treat the other as hostile: a machine
 * that was broken into from inside its guest must not harm the agent, nor a stray client the
 * machine.
 *
 * Thread: coding functions are pure. One thread at a time for a socket's receive, one for its send.
 */
#ifndef VMCORE_CTL_H
#define VMCORE_CTL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/id.h"
#include "vmcore/vm.h"

enum {
	VM_CTL_VERSION = 1,
	VM_CTL_HEADER_BYTES = 16,
	VM_CTL_DATA_MAX = 64 << 10, /* of one READ, of serial bytes */
	VM_CTL_FRAME_MAX = VM_CTL_DATA_MAX + 512,
	VM_CTL_FDS_MAX = 64,
	VM_CTL_NAME_BYTES = 65,
	VM_CTL_REPLAY_BYTES = 64 << 10 /* serial output that is kept for who attaches later */
};

/* Numbers are on the wire: frozen, grouped by hundreds, never reused. */
enum vm_ctl_type {
	/* requests */
	VM_CTL_HELLO = 1, /* .version: highest of the client's; answer INFO */
	VM_CTL_STATE = 2, /* answer INFO */
	VM_CTL_GET_STATS = 3,
	VM_CTL_LISTEN = 4,  /* EVENTs from now on */
	VM_CTL_PAUSE = 100, /* .n: limit in ns */
	VM_CTL_RESUME = 101,
	VM_CTL_STOP = 102, /* power off and end the process; answered before it ends */
	VM_CTL_RESET = 103,
	VM_CTL_POWER_BUTTON = 104,
	VM_CTL_SERIAL_ATTACH = 200, /* .n: so many of the bytes kept are sent first */
	VM_CTL_SERIAL_IN = 201,     /* .bytes; no answer */
	VM_CTL_SCREEN_TEXT = 300,   /* answer TEXT */
	VM_CTL_SCREEN_PIXELS = 301, /* answer PIXELS */
	VM_CTL_CUT_PREPARE = 400,
	VM_CTL_CUT_HOLD = 401,    /* .n: limit in ns; .off: of the time from then to RESUME */
	VM_CTL_CUT_TAKE = 402,    /* answer CUT */
	VM_CTL_CUT_RESUME = 403,  /* answer NUMBER: how long the guest stood still, ns */
	VM_CTL_CUT_END = 404,     /* .n: 1 kept, as .base; 0 abandoned */
	VM_CTL_CUT_READ = 405,    /* .disk .off .len; answer DATA */
	VM_CTL_CUT_CHANGED = 406, /* .disk; answer MAP */
	VM_CTL_CUT_CHECK = 407,   /* is what was read still the cut? LB_ECHANGED: no */
	VM_CTL_CUT_ALONE = 408,   /* HOLD, TAKE and RESUME at once; .n: limit in ns; answer CUT */
	VM_CTL_GET_ORDER = 500,   /* first-touch order of a lazy restore; answer MAP */
	VM_CTL_OUTPUT_ACK = 501,  /* .n: seq whose receipt came: packets held for it go */
	/* answers */
	VM_CTL_OK = 1000,
	VM_CTL_ERROR = 1001,
	VM_CTL_INFO = 1002,
	VM_CTL_STATS = 1003,
	VM_CTL_TEXT = 1300,   /* .bytes: UTF-8 */
	VM_CTL_PIXELS = 1301, /* one descriptor: width * height palette indices */
	VM_CTL_CUT =
		1400, /* descriptors: state bytes, RAM image, and changed pages unless all are */
	VM_CTL_NUMBER = 1401, /* .n */
	VM_CTL_DATA = 1402,   /* .bytes */
	VM_CTL_MAP = 1403,    /* .n bytes in one descriptor, none when there is no map; .base: what
				 changes count from, zeros when nobody said */
	/* unasked */
	VM_CTL_SERIAL_OUT = 2000, /* .bytes; .n: so many before them were lost to this client */
	VM_CTL_EVENT = 2001,
};

/* What a jail is made of; INFO tells which parts this process has. */
enum vm_jail_part {
	VM_JAIL_NO_NEW_PRIVS = 1u << 0,
	VM_JAIL_UID = 1u << 1, /* the uid and gid told, no groups but /dev/kvm's, no capability */
	VM_JAIL_CHROOT = 1u << 2,
	VM_JAIL_LANDLOCK = 1u << 3,
	VM_JAIL_SECCOMP = 1u << 4,
};

struct vm_ctl_info {
	uint16_t version; /* spoken on this connection */
	char name[VM_CTL_NAME_BYTES];
	struct lb_id uuid;
	uint32_t pid;
	enum vm_state state;
	uint32_t jail; /* enum vm_jail_part */
	uint64_t ram_bytes;
	uint32_t vcpus, disks, nics;
	uint64_t started_boot_ns; /* CLOCK_BOOTTIME */
	bool restored;            /* began from a checkpoint */
	char last[128];           /* newest event other than output, for people; "" none */
};

struct vm_ctl_cut {
	uint64_t seq, boot_ns, wall_ns;
	uint64_t state_bytes, ram_bytes;
	uint64_t changed_pages;
	bool all_changed;
	uint32_t disks;
	uint64_t disk_bytes[VM_DISKS_MAX];
	struct lb_hash base; /* what changed pages count from; zeros when nobody said */
};

struct vm_ctl_event {
	enum vm_event_type type;
	int32_t code;
	uint64_t rip;
	char text[160];
};

struct vm_ctl_msg {
	enum vm_ctl_type type;
	uint32_t tag;
	uint32_t fds;     /* that must come with it */
	uint64_t n;       /* PAUSE CUT_HOLD CUT_ALONE CUT_END SERIAL_* OUTPUT_ACK NUMBER MAP */
	uint16_t version; /* HELLO */
	uint32_t disk, len;
	uint64_t off;
	struct lb_hash base;    /* CUT_END MAP */
	const uint8_t *bytes;   /* borrowed, .len */
	uint32_t width, height; /* PIXELS */
	uint8_t palette[16][3];
	union {
		struct lb_err err;
		struct vm_ctl_info info;
		struct vm_stats stats;
		struct vm_ctl_cut cut;
		struct vm_ctl_event event;
	};
};

/* Into @out (VM_CTL_FRAME_MAX); *len: bytes. Errors: LB_EINVAL. */
int vm_ctl_encode(uint8_t *out, size_t *len, const struct vm_ctl_msg *m, struct lb_err *err);
/* One datagram. Bytes are borrowed from @p. Texts are NUL-terminated and UTF-8 or not: escape them
 * before showing. Errors: LB_EPROTO, LB_EVERSION (magic is ours, type is not known). */
int vm_ctl_decode(struct vm_ctl_msg *out, const void *p, size_t len, struct lb_err *err);
bool vm_ctl_is_request(enum vm_ctl_type t);
const char *vm_ctl_type_name(enum vm_ctl_type t); /* "CUT_TAKE" */

/* ---- the socket ---- */

/* A datagram with descriptors. @fds stay the caller's. Errors: LB_EAGAIN (socket does not block and
 * is full), LB_ECLOSED, LB_EIO. */
int vm_ctl_send(int sock, const void *p, size_t len, const int *fds, size_t fd_count,
		struct lb_err *err);
/* *len in: capacity, out: bytes. *fd_count in: capacity of @fds, out: how many; they are the
 * caller's, close-on-exec. More of either than fits: LB_EPROTO, everything closed. LB_EAGAIN,
 * LB_ECLOSED (other end is gone), LB_EIO. */
int vm_ctl_recv(int sock, void *p, size_t *len, int *fds, size_t *fd_count, struct lb_err *err);

/* ---- the client's side, blocking ---- */

/* A connection of its own to the machine at @path; says hello. Not answered within @timeout_ns:
 * LB_ETIMEDOUT (also for every later call). LB_ENOTFOUND, LB_ECLOSED (nobody there any more),
 * LB_EDENIED, LB_EVERSION. Thread: one at a time. */
struct vm_ctl;
int vm_ctl_open(struct vm_ctl **out, const char *path, uint64_t timeout_ns, struct lb_err *err);
void vm_ctl_close(struct vm_ctl *c);                           /* NULL is allowed */
const struct vm_ctl_info *vm_ctl_info(const struct vm_ctl *c); /* of the hello */
int vm_ctl_fd(const struct vm_ctl *c);                         /* for poll(); lives as long as @c */
/* False: an answer did not come, or it was another request's; every later call fails. */
bool vm_ctl_usable(const struct vm_ctl *c);
/* One request and its answer, of type @want (else LB_EPROTO) or the machine's own error. @fds may
 * be NULL; else room for 3: they are the caller's, -1 where none came. *answer's bytes are valid
 * until the next call. @request's tag is set here. */
int vm_ctl_call(struct vm_ctl *c, const struct vm_ctl_msg *request, enum vm_ctl_type want,
		struct vm_ctl_msg *answer, int fds[3], struct lb_err *err);
/* Its two halves, for who asks several machines at the same time. Nothing else is asked of @c in
 * between. */
int vm_ctl_begin(struct vm_ctl *c, const struct vm_ctl_msg *request, struct lb_err *err);
int vm_ctl_finish(struct vm_ctl *c, enum vm_ctl_type want, struct vm_ctl_msg *answer, int fds[3],
		  struct lb_err *err);
/* Without an answer: SERIAL_IN. */
int vm_ctl_post(struct vm_ctl *c, const struct vm_ctl_msg *m, struct lb_err *err);
/* The next SERIAL_OUT or EVENT; LB_ETIMEDOUT when none comes within @timeout_ns. What came while a
 * call waited for its answer was dropped: who attaches uses a connection of its own. */
int vm_ctl_next(struct vm_ctl *c, uint64_t timeout_ns, struct vm_ctl_msg *out, struct lb_err *err);

#endif
