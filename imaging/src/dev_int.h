/*
 * dev_int.h - what the devices of imaging/ share among themselves.
 */
#ifndef IMAGING_DEV_INT_H
#define IMAGING_DEV_INT_H

#include <stdint.h>

struct lb_err;
struct img_dev;

/* Store @len zero bytes at @off through the device's own pwrite, a piece at a time: the way out for
 * a device, a file system or a server that cannot punch holes. The range was checked already. */
int img_write_zeros(struct img_dev *d, uint64_t len, uint64_t off, struct lb_err *err);

static inline uint64_t img_min(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

#endif
