/*
 * siteagent/hv.h - boot a machine from the volumes of a recovery point: one vtable, several
 * drivers.
 *
 *   libvirt  a domain of this site's libvirtd; each disk is a qcow2 overlay over the view's NBD
 * socket, so a replica of any size starts at once and the replica is never written
 *
 *   vmcore   a lifeboat-vm process: the same view, an overlay of our own, and memory points lazily
 *
 * Which of them: vmcore where it is there, this host's KVM runs guest kernels natively and the
 * machine fits it, else libvirt. sa_hv_why() says what decided; a preference forces one.
 *
 *   create -> fits -> prepare -> start -> probe... -> stop -> destroy
 *                                  |  ^
 *                                pause/resume
 *
 * The same driver boots drills and failovers: they differ in the network they are given and in what
 * happens to the overlays afterwards. Everything the guest may see as "the same machine" (firmware,
 * buses, MAC, CPU model, UUID unless it is a drill) comes from the stored XML; disks, NICs'
 * connection, serial and channel backends are replaced by ours, everything that names a host file
 * of the other site is dropped.
 *
 * The XML comes from the other site's agent: it is parsed as foreign input (bounded, no entities,
 * no network) and rebuilt from a list of known elements, so it cannot name a file of this host.
 *
 * Thread: blocking calls; one thread at a time per machine (any). Different machines: in parallel.
 */
#ifndef SITEAGENT_HV_H
#define SITEAGENT_HV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/id.h"

struct lb_err;
struct sa_hv;         /* one hypervisor of this host */
struct sa_hv_machine; /* one booted, or prepared, machine */

enum sa_hv_prefer { /* names: "auto", "libvirt", "vmcore" */
	SA_HV_AUTO,
	SA_HV_LIBVIRT,
	SA_HV_VMCORE
};
struct sa_hv_cfg {
	const char *driver; /* "auto", or one of them by force */
	const char *uri;    /* of this site's libvirtd, e.g. qemu+unix:///system?socket=/run/... */
	const char *vm_program;   /* lifeboat-vm; NULL: no vmcore */
	const char *firmware;     /* what vmcore boots disks by; NULL: Debian's SeaBIOS */
	const char *vga_firmware; /* NULL or "": machines have no screen */
	bool complement;          /* TEST ONLY: vm_cfg.complement */
	/* Booted instead of what the stored XML names, for machines with direct kernel boot (host
	 * files are never taken from foreign XML). NULL: such machines do not fit. */
	const char *kernel;
	const char *initrd;
	/* allow <domain type='kvm'> where the stored XML asks for it and KVM does not emulate here
	 * anyway; else emulation */
	bool kvm;
};

/* Errors: LB_EINPUT (unknown driver), LB_ENOMEM. Does not connect yet. @cfg is copied. */
int sa_hv_create(struct sa_hv **out, const struct sa_hv_cfg *cfg, struct lb_err *err);
void sa_hv_destroy(struct sa_hv *hv); /* after its machines; NULL is allowed */

enum {
	SA_HV_DISKS_MAX = 16
};

struct sa_hv_disk {
	const char *name; /* the volume's name = target device in the stored XML ("vda", "hda") */
	const char *nbd_socket; /* absolute path of the unix socket that serves its view */
	const char *nbd_export; /* "" is the default export */
	uint64_t size_bytes;
};

struct sa_hv_boot_cfg {
	const char *name;        /* of the domain here, unique on the host; [A-Za-z0-9._-]{1,64} */
	const char *machine_xml; /* as sa_source_machine_xml() gave it, at most 1 MiB */
	const struct sa_hv_disk *disks;
	size_t disk_count;
	const char *dir; /* private directory of this boot (made, 0700): overlays, serial log,
			    sockets */
	/* Where its NICs go. Both NULL: cut off. @netns: a network namespace that exists already
	 * (name as in "ip netns"); the NICs' taps are moved there. @bridge: a bridge (in @netns, or
	 * here) they are put into. */
	const char *netns;
	const char *bridge;
	const char
		*cmdline_extra; /* appended to a direct-boot kernel's command line; may be NULL */
	bool keep_uuid;         /* a failover keeps the machine's UUID, a drill does not */
	struct lb_hash point;   /* that the disks show */
	/* Memory point: go on from here (vmcore only; borrowed during prepare). NULL: cold boot. */
	const void *state;
	size_t state_bytes;
	const char *ram_socket; /* NBD view of its memory */
	/* With it, optional: what sa_hv_order() said after an earlier boot; fetched first. */
	const void *order;
	size_t order_bytes;
};

/* May this hypervisor boot that machine? 0, or LB_EUNSUPPORTED naming what is missing, LB_EINPUT
 * for XML that is no machine of ours, LB_EAGAIN when the hypervisor is not reachable. */
int sa_hv_fits(struct sa_hv *hv, const struct sa_hv_boot_cfg *cfg, struct lb_err *err);
/* Make overlays and define the machine; nothing runs yet. On success *@out is the caller's. */
int sa_hv_prepare(struct sa_hv *hv, struct sa_hv_machine **out, const struct sa_hv_boot_cfg *cfg,
		  struct lb_err *err);
/* Which driver it has and why, for people: "vmcore: KVM is native (VMX)". */
const char *sa_hv_why(const struct sa_hv_machine *m);
const char *sa_hv_driver(const struct sa_hv_machine *m);
/* After a crash of the agent: the machine prepared as @cfg->name in @cfg->dir, whatever its state.
 * Errors: LB_ENOTFOUND (then prepare again: a half-made one is cleaned up by it), LB_EUNSUPPORTED
 * (of a driver that is not configured any more), LB_EAGAIN (libvirt's, and not reachable). */
int sa_hv_adopt(struct sa_hv *hv, struct sa_hv_machine **out, const struct sa_hv_boot_cfg *cfg,
		struct lb_err *err);
int sa_hv_start(struct sa_hv_machine *m, struct lb_err *err); /* running already: 0 */
int sa_hv_pause(struct sa_hv_machine *m, struct lb_err *err);
int sa_hv_resume(struct sa_hv_machine *m, struct lb_err *err);
/* Power off, now; then take the definition away. Idempotent. The overlays stay unless
 * @remove_overlays: then nothing is left to be adopted. */
int sa_hv_stop(struct sa_hv_machine *m, bool remove_overlays, struct lb_err *err);
/* Drops our handle only: a running machine runs on. NULL is allowed. */
void sa_hv_machine_destroy(struct sa_hv_machine *m);

/* In which order a machine that went on from memory touched it so far, for its next boot; *out is
 * the caller's: free(). What it means is the driver's affair. Errors: LB_ENOTFOUND (cold boot,
 * nothing touched, another driver). */
int sa_hv_order(struct sa_hv_machine *m, uint8_t **out, size_t *bytes, struct lb_err *err);

enum sa_hv_state {
	SA_HV_OFF,
	SA_HV_RUNNING,
	SA_HV_PAUSED,
	SA_HV_GONE
};
int sa_hv_state(struct sa_hv_machine *m, enum sa_hv_state *out, struct lb_err *err);

/* The last at most @len bytes of the serial console, unescaped (escape before showing:
 * lb_text_escape). */
int sa_hv_console(struct sa_hv_machine *m, char *buf, size_t len, size_t *got, struct lb_err *err);
/* The same of the machine that was booted in directory @dir, also when it is gone since. */
int sa_hv_console_at(const char *dir, char *buf, size_t len, size_t *got, struct lb_err *err);

enum sa_probe_kind {
	SA_PROBE_SERIAL, /* .text appears as a part of one console line */
	SA_PROBE_TCP, /* .host:.port accepts, seen from .netns; with .text: its answer contains it
		       */
	SA_PROBE_HEARTBEAT, /* the guest's org.lifeboat.heartbeat port speaks */
};
struct sa_probe {
	enum sa_probe_kind kind;
	const char *text;
	const char *host; /* numeric IPv4 or IPv6 */
	uint16_t port;
	uint64_t timeout_ns; /* of the whole probe: it is repeated until then */
};
/* 0: passed, with what was seen in @seen (may be NULL; the line, answer or beat, escaped).
 * LB_ETIMEDOUT: not seen in time, the message says what came last. LB_ECLOSED: the machine went off
 * meanwhile. @cancel (may be NULL) is polled: LB_ECANCELED once it is true. */
int sa_hv_probe(struct sa_hv_machine *m, const struct sa_probe *p, char *seen, size_t seen_len,
		const bool *cancel, struct lb_err *err);

#endif
