/*
 * imaging/dev.h - img_dev, the narrow waist: everything that looks like a disk.
 *
 * A source disk, an NBD export, a view of a recovery point, an overlay, a fault injector, a guest's
 * disk: one small vtable, stackable. Offsets and lengths are bytes; implementations need not
 * support less than 512-byte alignment, callers in this tree use 4096.
 *
 * Ownership: a stacked device borrows what it is stacked on unless its create says "takes".
 *
 * Thread: pread, pwrite, zero, flush and next_extent may be called from several threads at once.
 * File, mem, nbd and view devices work in parallel; fault, crash and overlay serialise inside.
 *
 * Errors: LB_EINVAL for a range outside the device (checked here, once), LB_EDENIED for a write to
 * a read-only device; else as the device says. After a failed read the buffer's, after a failed
 * write the range's content is undefined. A length of 0 succeeds and does not reach the device.
 */
#ifndef IMAGING_DEV_H
#define IMAGING_DEV_H

#include <stdbool.h>
#include <stdint.h>

struct lb_err;
struct lb_hash;
struct img_dev;

/* A run of bytes that all are data, or all read as zero without being stored. */
struct img_extent {
	uint64_t off;
	uint64_t len;
	bool zero;
};

struct img_dev_ops {
	const char *name;
	int (*pread)(struct img_dev *d, void *buf, uint64_t len, uint64_t off, struct lb_err *err);
	int (*pwrite)(struct img_dev *d, const void *buf, uint64_t len, uint64_t off,
		      struct lb_err *err); /* NULL: read-only, LB_EDENIED */
	/* Make the range read as zero, giving the space back where possible. NULL: written as
	 * zeros. */
	int (*zero)(struct img_dev *d, uint64_t len, uint64_t off, struct lb_err *err);
	int (*flush)(struct img_dev *d, struct lb_err *err); /* NULL: nothing to do */
	/* The extent that begins at @off (off < size). May merge less than possible, never report
	 * data as zero. NULL: all is data. */
	int (*next_extent)(struct img_dev *d, struct img_extent *out, uint64_t off,
			   struct lb_err *err);
	void (*destroy)(struct img_dev *d);
};

struct img_dev {
	const struct img_dev_ops *ops;
	uint64_t size_bytes;
};

int img_pread(struct img_dev *d, void *buf, uint64_t len, uint64_t off, struct lb_err *err);
int img_pwrite(struct img_dev *d, const void *buf, uint64_t len, uint64_t off, struct lb_err *err);
int img_zero(struct img_dev *d, uint64_t len, uint64_t off, struct lb_err *err);
int img_flush(struct img_dev *d, struct lb_err *err);
int img_next_extent(struct img_dev *d, struct img_extent *out, uint64_t off, struct lb_err *err);
bool img_writable(const struct img_dev *d);
void img_dev_destroy(struct img_dev *d); /* NULL is allowed */

/* Every create: on success *@out is the caller's, img_dev_destroy(). */

/* RAM, sparse by 64 KiB chunks; zeroing whole chunks frees them. Errors: LB_ENOMEM, also from
 * pwrite. */
int img_mem_create(struct img_dev **out, uint64_t size_bytes, struct lb_err *err);

/*
 * A raw image file or a block device. The size is fixed at open; a file that shrinks, disappears
 * under its name or is replaced afterwards gives LB_ECHANGED with the path (img_file_check), and a
 * short read inside the size gives LB_ECHANGED. next_extent uses SEEK_DATA/SEEK_HOLE (a block
 * device: all is data). Never probes a format. Zeroing punches holes where the file system can and
 * writes zeros where it cannot. A failed flush is final: later ones give LB_ESUSPECT, because the
 * kernel forgets which pages it lost. Errors of create: LB_ENOTFOUND, LB_EDENIED, LB_EEXIST,
 * LB_EINPUT (a directory, FIFO, ...), LB_EBUSY (a mounted block device opened for writing),
 * LB_EUNSUPPORTED (O_DIRECT refused), LB_EIO. All name the path.
 */
struct img_file_cfg {
	const char *path;
	bool writable;
	bool create; /* needs writable; makes a sparse file of size_bytes, LB_EEXIST when there */
	uint64_t size_bytes; /* with create */
	/* O_DIRECT for what is aligned to 4096 in the buffer, and in offset and length to 4096 (a
	 * file) or the logical block (a device). */
	bool direct;
};
int img_file_create(struct img_dev **out, const struct img_file_cfg *cfg, struct lb_err *err);
/* The same over the open descriptor @fd, which is taken on success: for a process that may not open
 * files. @label stands for the path in messages; img_file_check() is not for it. Errors:
 * LB_EINPUT, LB_EIO, LB_ENOMEM. */
int img_file_create_fd(struct img_dev **out, int fd, const char *label, bool writable,
		       struct lb_err *err);
/* Is the file behind @d (made by img_file_create) still the one that was opened, and not shorter?
 */
int img_file_check(struct img_dev *d, struct lb_err *err);
/* How long it is now: more than size_bytes when it grew since. Errors: LB_ECHANGED. */
int img_file_length(struct img_dev *d, uint64_t *bytes, struct lb_err *err);

/* Copy-on-write over a never changing @lower (borrowed): changed 4 KiB blocks are kept in @upper
 * (borrowed, a writable device at least as large, reads as zero where unwritten) and a bitmap in
 * RAM; see img_overlay_save(). */
int img_overlay_create(struct img_dev **out, struct img_dev *lower, struct img_dev *upper,
		       struct lb_err *err);
/* The bitmap, one bit per 4 KiB block, LSB first, for storing beside @upper; load refuses another
 * size. */
uint64_t img_overlay_bitmap_bytes(const struct img_dev *d);
void img_overlay_save(struct img_dev *d, uint8_t *bitmap);
int img_overlay_load(struct img_dev *d, const uint8_t *bitmap, uint64_t bytes, struct lb_err *err);

/*
 * An overlay (as above, it makes its own) that a crash does not lose: the bitmap is kept in @map (a
 * writable device of at least img_kept_map_bytes()) by every flush, after the blocks it names. So a
 * flushed write is there again after kill -9 or a power cut, one that was not flushed may be gone,
 * as on any disk with a cache. @map begins as zeros, then belongs to @of (the point @lower shows):
 * another one is refused (LB_EINPUT), as is a torn or foreign map (LB_ECORRUPT). All borrowed.
 * docs/formats/overlay.md
 */
uint64_t img_kept_map_bytes(uint64_t lower_bytes);
int img_kept_create(struct img_dev **out, struct img_dev *lower, struct img_dev *upper,
		    struct img_dev *map, const struct lb_hash *of, struct lb_err *err);

/*
 * NBD client (libnbd, blocking, handle pool of @connections, 1..16):
 * "nbd+unix:///export?socket=/path" or nbd://host. Uses structured replies and base:allocation for
 * next_extent when the server has them. Writable when the export is; a writable export without
 * multi-conn gets one connection whatever was asked. Errors: LB_EINPUT (URI not understood),
 * LB_ECLOSED (cannot connect, or the connection broke: this device is dead then, make a new one),
 * LB_EDENIED, LB_ENOSPC, LB_EPROTO, LB_EIO. All name the URI. There is no timeout: a server that
 * stops answering blocks the calling thread, as a disk does.
 */
int img_nbd_create(struct img_dev **out, const char *uri, unsigned connections, struct lb_err *err);
/* The same over the connected stream socket @fd (before the NBD handshake), which is taken on
 * success: for a process that may not open sockets itself. @export_name may be "". @label stands
 * for the URI in messages. */
int img_nbd_create_fd(struct img_dev **out, int fd, const char *export_name, const char *label,
		      struct lb_err *err);

/* Passes everything to @lower (borrowed), but operation number @fail_at (from 1; 0 = never) gives
 * @code and does not reach @lower. Operations of all kinds are counted together. Writable when
 * @lower is. */
int img_fault_create(struct img_dev **out, struct img_dev *lower, uint64_t fail_at, int code,
		     struct lb_err *err);
uint64_t img_fault_count(const struct img_dev *d); /* operations so far */

/*
 * A disk with a volatile cache over RAM: writes since the last flush are kept aside in order.
 * img_crash_cut() plays a power cut: a random subset (from @seed) of the unflushed writes survives,
 * the last survivor torn: a random subset of its 512-byte sectors arrives; afterwards the device
 * works again, as after a reboot. Zeroing is writing zeros. At most 256 MiB may be unflushed (then
 * LB_ENOMEM). With @cut_at_flush n > 0 the n-th flush itself cuts the power: it returns LB_EIO, and
 * so does everything until img_crash_reboot().
 */
int img_crash_create(struct img_dev **out, uint64_t size_bytes, uint64_t cut_at_flush,
		     uint64_t seed, struct lb_err *err);
void img_crash_cut(struct img_dev *d, uint64_t seed);
void img_crash_reboot(struct img_dev *d);
uint64_t img_crash_flushes(const struct img_dev *d);

#endif
