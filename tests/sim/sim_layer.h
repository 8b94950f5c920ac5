/*
 * tests/sim/sim_layer.h - what blocks hold, layers made of it, layers read back.
 *
 * A disk's block of version v is unlike every other. RAM's version is a family (what the page was
 * filled with) and a number of edits (words changed since); pages of one version are equal, in
 * whichever block they stand, so that refs and patches have something to find.
 */
#ifndef SIM_LAYER_H
#define SIM_LAYER_H

#include "sim.h"

#define SIM_EDITS_MAX 255u /* of one family */

void sim_content(uint8_t *out, unsigned volume, uint32_t block, uint32_t version);
/* Change the disk and the RAM as a machine would. */
void sim_write(struct sim *s);
/* The header of volume @volume's layer in the running cut. */
void sim_layer_header(const struct sim *s, unsigned volume, struct rep_layer_header *h);
/* Compare the frozen cut with the digests and make all parts of all layers. */
int sim_cut_build(struct sim *s, struct lb_err *err);
void sim_cut_fini(struct sim_cut *c);
/* Read one layer of @store and lay it over @v (versions of its base, and the places it reaches).
 * NULL, or what is wrong. */
const char *sim_layer_read(struct sim *s, struct rep_store *store,
			   const struct rep_manifest_volume *mv, struct sim_versions *v,
			   const struct sim_versions *truth, unsigned volume);

#endif
