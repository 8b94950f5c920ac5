/*
 * vmcore/src/slowpit.h - TEST ONLY: channel 0 of an i8254 whose seconds are longer than ours.
 *
 * Where ring 0 is emulated, one timer interrupt of a Linux kernel takes 2 to 3 ms, so 250 a second
 * leave little for anything else. This PIT (instead of KVM's) ticks @stretch times slower; the
 * guest's time of day then comes from its TSC. Channel 2 and the speaker read as "done". Registered
 * as "slowpit" (vm_cfg.tick_stretch, with the complement only).
 */
#ifndef VMCORE_SLOWPIT_H
#define VMCORE_SLOWPIT_H

#include <stdint.h>

struct lb_err;
struct vm_board;

/* @stretch 1..1000. Errors: LB_EINVAL, LB_ENOMEM. */
int vm_slowpit_create(struct vm_board *b, uint32_t stretch, struct lb_err *err);

#endif
