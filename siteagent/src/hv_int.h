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
	SA_HV_TAP_BYTES = 16
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
};

struct sa_hv {
	const struct sa_hv_ops *ops;
	char *uri, *kernel, *initrd; /* kernel and initrd may be NULL */
	bool kvm;
};

struct sa_hv_machine {
	struct sa_hv *hv;
	char name[SA_HV_NAME_BYTES];
	char dir[PATH_MAX];
	char netns[SA_HV_NAME_BYTES], bridge[SA_HV_NAME_BYTES]; /* "" none */
	size_t disks;
	char disk[SA_HV_DISKS_MAX][SA_HV_NAME_BYTES];
	size_t nics;
};

extern const struct sa_hv_ops sa_hv_libvirt_ops;

/* DIR/FILE of @m into @out (PATH_MAX). */
int sa_hv_path(const struct sa_hv_machine *m, const char *file, char *out, struct lb_err *err);
/* DIR/VOLUME.qcow2 */
int sa_hv_overlay(const struct sa_hv_machine *m, size_t disk, char *out, struct lb_err *err);
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
int sa_hv_domain_build(struct sa_hv_domain *out, const struct sa_hv_machine *m,
		       const struct sa_hv_boot_cfg *cfg, struct lb_err *err);

#endif
