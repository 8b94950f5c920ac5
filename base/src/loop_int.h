/* What the parts of loop.h (loop, child, pool) share. */
#ifndef LOOP_INT_H
#define LOOP_INT_H

#include "base/loop.h"

/* As lb_loop_post(); @drop(@arg) runs instead of @fn when the loop is destroyed first. */
void lb_loop_post_owned(struct lb_loop *l, lb_loop_fn fn, lb_loop_fn drop, void *arg);

#endif
