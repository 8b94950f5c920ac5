/*
 * vmcore/src/rtc.h - the MC146818 clock and its 128 bytes of CMOS at ports 0x70 and 0x71, IRQ 8.
 *
 * The guest's clock is the host's wall clock plus an offset that the guest sets (and that a restore
 * may shift, so that a drill's machine lives on in its own time). UTC. The update cycle is told as
 * the chip does: UIP rises 244 microseconds before the second changes, so who reads it clear has
 * that long. Periodic, alarm and update interrupts come from one thread that sleeps while none is
 * enabled. [Motorola MC146818A, 1988; Intel 290550 82371SB]
 *
 * Firmware finds here: memory sizes, number of vCPUs (0x5f), boot order, no floppy.
 */
#ifndef VMCORE_RTC_H
#define VMCORE_RTC_H

#include <stdbool.h>
#include <stdint.h>

struct lb_err;
struct vm_board;
struct vm_rtc;

struct vm_rtc_cfg {
	uint64_t ram_bytes;
	unsigned vcpus;
	bool no_thread; /* tests: time passes when vm_rtc_poll() is called */
};
/* Lives as long as the board; its time is the board's environment's. */
int vm_rtc_create(struct vm_rtc **out, struct vm_board *b, const struct vm_rtc_cfg *cfg,
		  struct lb_err *err);
/* After a load: the clock goes on where it stood at the save, instead of at the host's now. */
void vm_rtc_freeze(struct vm_rtc *r);
/* Set what is due by now. Returns when (now_ns) there will be more, UINT64_MAX: never. Lock held.
 */
uint64_t vm_rtc_poll(struct vm_rtc *r);

#endif
