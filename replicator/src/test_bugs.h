/*
 * test_bugs.h - seeded bugs, to prove that the simulator would find them. Product builds never
 * define LB_TEST_BUGS: there REP_BUG() is the constant false and no trace of this is left.
 */
#ifndef REPLICATOR_TEST_BUGS_H
#define REPLICATOR_TEST_BUGS_H

#include <stdbool.h>

#define REP_TEST_BUGS(X)                                                                   \
	X(ack_before_sync)       /* receipt although the commit gave an error */           \
	X(commit_skipped)        /* receipt without any commit */                          \
	X(base_by_number)        /* offer's prev and base are not compared by hash */      \
	X(skip_epoch_check)      /* target takes a lower epoch */                          \
	X(epoch_not_raised)      /* target takes a higher epoch without recording it */    \
	X(skip_layer_check)      /* manifest becomes visible without checking layers */    \
	X(receipt_unmatched)     /* source takes any receipt of the group */               \
	X(credit_before_append)  /* credit when a record arrives */                        \
	X(credit_failed_append)  /* credit although the append failed */                   \
	X(forget_unacked_part)   /* parts in flight on a lost connection are dropped */    \
	X(resend_nothing_lost)   /* credited parts the peer lost go unnoticed */           \
	X(point_before_credit)   /* POINT as soon as the cut is sealed */                  \
	X(draft_not_abandoned)   /* old draft of a volume is kept beside the new one */    \
	X(old_session_kept)      /* a newer session does not end the older one */          \
	X(suspect_forgotten)     /* goes on acknowledging after a failed sync */           \
	X(age_from_reply)        /* cut's age counted from the PONG's arrival */           \
	X(fence_ignored)         /* source goes on after hearing of a higher epoch */      \
	X(apply_before_receipt)  /* sim's source: digests applied when POINT leaves */     \
	X(redo_not_synced)       /* sim's source: redo log sealed after POINT */           \
	X(apply_on_abandon)      /* sim's source: digests applied for a given-up cut */    \
	X(resume_moved_cut)      /* sim's source: an unfinished cut's ids for a new cut */ \
	X(boot_ignored)          /* RAM's unsynced digests of another boot are used */     \
	X(shadow_before_receipt) /* shadow: changes enter it when the cut is sealed */     \
	X(shadow_abandoned)      /* shadow: places of a given-up cut's layer stay in it */ \
	X(shadow_depth_two)      /* shadow: a patch is made of a patched block */          \
	X(shadow_unreached)      /* shadow: keeps what the newest point reaches no more */ \
	X(ref_not_compared)      /* shadow: a ref for digests that are alike */            \
	X(draft_not_compared)    /* draft: a block's old place without its digest */       \
	X(draft_of_other)        /* draft: of another epoch, seq, key, base or prev */     \
	X(draft_of_this_run)     /* draft: packs of it may still be on their way */        \
	X(draft_number_reused)   /* draft: numbers begin at the first missing pack */      \
	X(draft_thought_held)    /* draft: what was noted is taken for held */             \
	X(draft_unknown_taken)   /* draft: packs that the journal does not know */         \
	X(draft_tail_kept)       /* store: an older attempt's index stays */

#ifdef LB_TEST_BUGS
#define REP_TEST_BUG_FIELD(name) bool name;
struct rep_test_bugs {
	REP_TEST_BUGS(REP_TEST_BUG_FIELD)
};
#undef REP_TEST_BUG_FIELD
extern struct rep_test_bugs rep_test_bugs; /* defined by the test program */
#define REP_BUG(name) (rep_test_bugs.name)
#else
#define REP_BUG(name) false
#endif

#endif
