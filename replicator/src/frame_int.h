/*
 * frame_int.h - the payload codecs behind frame.h: one pair of functions for each frame type.
 *
 * A writer gets a frame whose type is its own and writes the payload; false (LB_EINVAL to the
 * caller) when a field breaks a rule that the reader would enforce. A reader fills the frame and
 * returns NULL, or the name of what is wrong. Neither checks that the payload ended: frame.c does.
 */
#ifndef FRAME_INT_H
#define FRAME_INT_H

#include <stdbool.h>

#include "base/rd.h"
#include "base/wr.h"
#include "replicator/frame.h"

#define REP_FRAME_TEXT_MAX 160u

typedef const char *(*rep_frame_get_fn)(struct rep_frame *f, struct lb_rd *rd);
typedef void (*rep_frame_put_fn)(const struct rep_frame *f, struct lb_wr *wr);

void rep_put_offer(const struct rep_frame *f, struct lb_wr *wr);
const char *rep_get_offer(struct rep_frame *f, struct lb_rd *rd);
void rep_put_admit(const struct rep_frame *f, struct lb_wr *wr);
const char *rep_get_admit(struct rep_frame *f, struct lb_rd *rd);
void rep_put_refuse(const struct rep_frame *f, struct lb_wr *wr);
const char *rep_get_refuse(struct rep_frame *f, struct lb_rd *rd);
void rep_put_record(const struct rep_frame *f, struct lb_wr *wr);
const char *rep_get_record(struct rep_frame *f, struct lb_rd *rd);
void rep_put_point(const struct rep_frame *f, struct lb_wr *wr);
const char *rep_get_point(struct rep_frame *f, struct lb_rd *rd);

/* Text for people: printable ASCII, at most REP_FRAME_TEXT_MAX. What else is in @s becomes '?'. */
void rep_put_text(struct lb_wr *wr, const char *s);
bool rep_get_text(struct lb_rd *rd, char out[REP_FRAME_TEXT_MAX + 1]);

#endif
