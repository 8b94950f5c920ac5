/*
 * siteagent/src/hv_int.h - what a boot driver implements, and how a booted machine lies on disk:
 *
 *   DIR/NAME.qcow2      overlay of volume NAME
 *   DIR/serial.log      console, from this boot on
 *   DIR/heartbeat.sock  org.lifeboat.heartbeat
 *   DIR/domain.xml      what was defined, for people
 */
#ifndef SITEAGENT_HV_INT_H
#define SITEAGENT_HV_INT_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "siteagent/hv.h"

enum {
	SA_HV_NAME_BYTES = 65,
	SA_HV_NICS_MAX = 8,
	SA_HV_TAP_BYTES = 16,
	SA_HV_WHY_BYTES = 256
};

struct sa_hv_ops {
	const char *driver;
	int (*fits)(struct sa_hv *hv, const struct sa_hv_boot_cfg *cfg, struct lb_err *err);
	/* @m is filled in (names, directory made); make overlays and define. */
	int (*prepare)(struct sa_hv_machine *m, const struct sa_hv_boot_cfg *cfg,
		       struct lb_err *err);
	int (*adopt)(struct sa_hv_machine *m, const struct sa_hv_boot_cfg *cfg, struct lb_err *err);
	int (*start)(struct sa_hv_machine *m, struct lb_err *err);
	int (*pause)(struct sa_hv_machine *m, struct lb_err *err);
	int (*resume)(struct sa_hv_machine *m, struct lb_err *err);
	int (*stop)(struct sa_hv_machine *m, struct lb_err *err);
	int (*state)(struct sa_hv_machine *m, enum sa_hv_state *out, struct lb_err *err);
	int (*order)(struct sa_hv_machine *m, uint8_t **out, size_t *bytes,
		     struct lb_err *err); /* NULL: never any */
	/* What remove_overlays means; NULL: DIR/VOLUME.qcow2 of each disk. */
	int (*remove)(struct sa_hv_machine *m, struct lb_err *err);
	void (*drop)(struct sa_hv_machine *m); /* of .own; NULL: none */
	bool memory;                           /* can go on from a memory point */
};

struct sa_hv {
	enum sa_hv_prefer prefer;
	char *uri;             /* NULL: no libvirt */
	char *vm_program;      /* NULL: no vmcore */
	char *kernel, *initrd; /* may be NULL */
	char *firmware;        /* vmcore's */
	char *vga_firmware;    /* may be NULL */
	bool kvm;
	bool complement;
};

struct sa_hv_machine {
	struct sa_hv *hv;
	const struct sa_hv_ops *ops;
	void *own; /* the driver's */
	char why[SA_HV_WHY_BYTES];
	char name[SA_HV_NAME_BYTES];
	char dir[PATH_MAX];
	char netns[SA_HV_NAME_BYTES], bridge[SA_HV_NAME_BYTES]; /* "" none */
	size_t disks;
	char disk[SA_HV_DISKS_MAX][SA_HV_NAME_BYTES];
	size_t nics;
};

extern const struct sa_hv_ops sa_hv_libvirt_ops, sa_hv_vmcore_ops;

/* hv_names.c. DIR/FILE of @m into @out (PATH_MAX). */
int sa_hv_path(const struct sa_hv_machine *m, const char *file, char *out, struct lb_err *err);
/* DIR/VOLUME.qcow2 */
int sa_hv_overlay(const struct sa_hv_machine *m, size_t disk, char *out, struct lb_err *err);
/* What this host could give a machine now. */
int sa_hv_memory_available(uint64_t *out, struct lb_err *err);
/* Name of its NIC @n's tap, the same for the same machine name. */
void sa_hv_tap(const struct sa_hv_machine *m, size_t n, char out[SA_HV_TAP_BYTES]);

/*
 * hv_xml.c: the domain we define, built from the foreign description. *out is the caller's (free);
 * *nics: how many taps it will have; @memory_bytes: what it needs. Errors: LB_EINPUT (not a
 * domain), LB_EUNSUPPORTED (naming what we cannot boot).
 */
struct sa_hv_domain {
	char *xml;
	size_t nics;
	uint64_t memory_bytes;
};
/* Content of a foreign element: a number, an amount of memory. Errors: LB_EINPUT. */
struct _xmlNode;
int sa_hv_number(uint64_t *out, struct _xmlNode *n, const char *what, struct lb_err *err);
int sa_hv_memory_bytes(uint64_t *out, struct _xmlNode *n, struct lb_err *err);
int sa_hv_domain_build(struct sa_hv_domain *out, const struct sa_hv_machine *m,
		       const struct sa_hv_boot_cfg *cfg, struct lb_err *err);

#endif
