/*
 * tests/lib/fake_ram.h - a machine's RAM without the machine: looks and changes as memory does.
 *
 * Content, in proportions of a Linux guest's dump (42 % zero; the rest compresses to about half
 * with LZ4): pages of pointers and small numbers, of text, of code-like bytes, of noise. Changes
 * keep to a working set that drifts: words edited in place, whole pages filled anew, pages moved or
 * copied, pages zeroed, pages that go back to what they were. All from one seed.
 *
 * A cut freezes a copy (only what changed is copied, as a hypervisor stages dirty pages); the
 * memory may be changed again while the cut is read. Thread: one; the device: any.
 */
#ifndef TESTS_FAKE_RAM_H
#define TESTS_FAKE_RAM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/id.h"

struct fake_ram;
struct img_dev;
struct img_extmap;

enum fake_ram_edits {
	FAKE_RAM_GUEST, /* all kinds of changes */
	FAKE_RAM_WORDS, /* 1 to 8 words of a page, in place */
};

/* Aborts when memory runs out. */
struct fake_ram *fake_ram_create(uint64_t bytes, uint64_t seed);
void fake_ram_destroy(struct fake_ram *m);
/* Change @pages pages (some more than once). */
void fake_ram_run(struct fake_ram *m, uint64_t pages, enum fake_ram_edits edits);

/* @page becomes @bytes (4096). */
void fake_ram_put(struct fake_ram *m, uint64_t page, const uint8_t *bytes);

/* Freeze. Borrowed until the next cut: the device, and the pages that may differ from the last cut
 * that ended as acknowledged. */
void fake_ram_cut(struct fake_ram *m, struct img_dev **dev, const struct img_extmap **changed);
void fake_ram_end(struct fake_ram *m, bool acked);
const uint8_t *fake_ram_frozen(const struct fake_ram *m);
void fake_ram_hash(const struct fake_ram *m, struct lb_hash *out); /* SHA-256 of the frozen */

#endif
