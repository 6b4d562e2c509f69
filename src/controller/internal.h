/* internal.h - the controller's state, and what its files ask of each other. Private to this
 * folder.
 *
 *   controller.c   life, requests by message, ticks and commits
 *   decision.c     records onto the speculative image, transactions, replies
 *   brokers.c      register, heartbeat, fence
 *   failures.c     what a broker says of its disks: failed directories and logs
 *   space.c        full disks (R16)
 *   elections.c    who leads: after a broker changed, preferred leaders
 *   unclean.c      who leads when no member of the ISR lives: the longest log (R8)
 *   partitions.c   AlterPartition
 *   topics.c       CreateTopics, DeleteTopics; placement.c, topic_config.c help it */
#ifndef KARST_CONTROLLER_INTERNAL_H
#define KARST_CONTROLLER_INTERNAL_H

#include "base/table.h"
#include "controller/controller.h"

enum {
    PRODUCER_IDS_BLOCK = 1000,
    INCARNATIONS_KEPT = 4,
    OFFSET_NOT_KNOWN = -1,
};
#define NEVER_NS UINT64_MAX

/* What the controller knows of a broker beside the image: lost with leadership. */
struct broker_soft {
    node_id_t id;
    broker_epoch_t epoch;
    uint64_t last_seen_ns;
    bool silent; /* while those are fenced that are */
    bool heard;  /* by this controller, in this life; else it only counts as seen (R10) */
    uint64_t active_since_ns;
    unsigned flaps; /* short lives in a row: its leaderships come back later each time */
    /* The first committed offset at which it is FENCED or LEAVING and leads nothing (that could
     * move). When its own image has come so far it knows that, and may become ACTIVE, or shut down
     * (R30). */
    int64_t settled_offset;
    /* Superseded ones: a late retry of theirs must not supersede the living. */
    struct uuid incarnations[INCARNATIONS_KEPT];
    unsigned incarnation_count;
    /* Replicas whose logs failed in this life, sorted: neither in sync nor leaders (R19). */
    struct partition_id *failed;
    size_t failed_count;
    /* Directories in which appends stop (R16). */
    struct uuid full[DIRECTORIES_MAX];
    size_t full_count;
    bool low_space;
};

struct controller {
    struct controller_config config;
    struct rng *rng;
    bool active;
    struct image *committed;
    struct image_edit *edit; /* speculation on top of it (R3) */
    struct table brokers;    /* node id → struct broker_soft */
    uint64_t activated_ns, last_tick_ns;
    uint64_t
        preferred_due_ns;   /* leaders may want to move back; NEVER_NS: all are where they belong */
    bool low_space;         /* of the metadata log's disk here (R16) */
    struct table questions; /* partition id → struct question (unclean.c) */
    uint64_t unclean_due_ns; /* partitions without a leader may get one uncleanly */

    /* The decision at hand. */
    struct record_list *records;
    struct record_list before_transaction; /* len and count only: where a failed one is cut off */
    int64_t entry_offset;
    uint64_t now_ns;
    struct arena *arena;
    bool at_once; /* the reply tells nothing of the state */
};

/* ---- decision.c ---- */

void decision_begin(struct controller *c, struct record_list *records, int64_t entry_offset,
                    uint64_t now_ns);
static inline const struct image *view(const struct controller *c)
{
    return image_edit_view(c->edit);
}
/* Packs the record, decodes it again and applies it to the speculative image (R3). On failure
 * neither has it. Inside a transaction it is only kept aside, and the view is as before. */
err_t decision_add(struct controller *c, const ProtobufCMessage *record);
/* What must be seen whole (R23). Where so_far is no success, or one record can't be applied, end
 * fails and leaves nothing of it. */
void decision_begin_transaction(struct controller *c);
err_t decision_end_transaction(struct controller *c, err_t so_far);
/* Says in the log that a record which should be legal was refused: our own mistake, contained. */
void decision_complain(const char *what, err_t err);

/* A reply, and its texts, in the request's arena; NULL without room. */
void *reply_new(struct controller *c, const ProtobufCMessageDescriptor *descriptor);
char *reply_text(struct controller *c, const char *format, ...) PRINTF_LIKE(2, 3);
/* count cleared, initialised messages and the array of pointers to them. */
void **reply_rows(struct controller *c, const ProtobufCMessageDescriptor *descriptor, size_t count);
ProtobufCBinaryData reply_uuid(struct controller *c, const struct uuid *id);
/* error and message (NULL: the table's) of a whole reply. */
ProtobufCMessage *reply_error(struct controller *c, const ProtobufCMessageDescriptor *descriptor,
                              err_t err, const char *sentence);
bool request_uuid(const ProtobufCBinaryData *bytes, struct uuid *ret_id);
ProtobufCBinaryData record_uuid(const struct uuid *id); /* a view */
/* In a record to pack, where the field is not const. */
static inline char *record_text(const char *text)
{
    return (char *)(uintptr_t)text;
}

/* ---- brokers.c ---- */

ProtobufCMessage *brokers_register(struct controller *c,
                                   const Karst__RegisterBrokerRequest *request);
ProtobufCMessage *brokers_heartbeat(struct controller *c, const Karst__HeartbeatRequest *request);
/* Who says so: OK, or why not. */
err_t brokers_check(struct controller *c, node_id_t node, broker_epoch_t epoch);
void brokers_fence(struct controller *c, node_id_t node, const char *why);
void brokers_fence_silent(struct controller *c);
void brokers_heard(struct controller *c, node_id_t node); /* it lives: its epoch was right */
uint64_t brokers_silence_due_ns(const struct controller *c);
void brokers_note_gap(struct controller *c, uint64_t gap_ns); /* this loop slept, not they */
void brokers_learn(struct controller *c);                     /* soft state from the view */
void brokers_settle(struct controller *c);                    /* after commit */
struct broker_soft *brokers_soft(struct controller *c, node_id_t node); /* made where missing */

/* ---- failures.c ---- */

/* What the heartbeat says of directories and logs that failed: they lead and vouch no more (R14,
 * R19). */
void failures_take(struct controller *c, const Karst__HeartbeatRequest *request);
void failures_forget(struct broker_soft *soft); /* of a life that is over */
bool failures_has(const struct broker_soft *soft, const struct partition_id *id);
/* Carries over what is not verified; fault: an online directory that is marked. */
const struct uuid *failures_marked_online(const struct image_broker *old,
                                          const Karst__RegisterBrokerRequest *request);
/* Into room for DIRECTORIES_MAX: those of old that stay marked. Views of old. */
size_t failures_carry(const struct image_broker *old, const Karst__RegisterBrokerRequest *request,
                      ProtobufCBinaryData *ret_marked);

/* ---- space.c ---- */

/* What the heartbeat says of full disks: leaderships go where there is room. */
void space_take(struct controller *c, const Karst__HeartbeatRequest *request);
/* Appends to the replica stop, as far as its broker has said. */
bool space_full(const struct controller *c, const struct image_partition *p, node_id_t node);
/* NULL, or why what makes the metadata grow is refused now. */
const char *space_refusal(const struct controller *c);

/* ---- elections.c ---- */

/* A partition's next state, begun from the one it has. */
struct partition_plan {
    struct partition_id id;
    const struct image_partition *now; /* valid until the plan is done */
    node_id_t leader;
    uint8_t isr_count, elr_count;
    node_id_t isr[REPLICAS_MAX], elr[REPLICAS_MAX];
    bool new_epoch;     /* even if the leader stays */
    bool unclean;       /* the partition remembers it for good (R8) */
    bool new_version;   /* a new partition epoch, even if nothing differs */
    int recovery_state; /* -1: as it is */
    bool directories_set;
    struct uuid directories[REPLICAS_MAX];
};
void plan_begin(struct partition_plan *plan, const struct partition_id *id,
                const struct image_partition *now);
void plan_leave_isr(struct partition_plan *plan, node_id_t node);
bool plan_in_isr(const struct partition_plan *plan, node_id_t node);
void plan_leave_elr(struct partition_plan *plan, node_id_t node);
/* Emits what differs from now, if anything. */
err_t plan_done(struct controller *c, struct partition_plan *plan);

/* First of the plan's ISR, in replica order, that may lead; one with room for appends before one
 * without (R16). except: leave this one out. -1: none. */
node_id_t elect(const struct controller *c, const struct partition_plan *plan, node_id_t except);
/* The broker is active, and the replica sound. */
bool may_lead(const struct controller *c, const struct partition_id *id,
              const struct image_partition *p, node_id_t node);
bool broker_active(const struct controller *c, node_id_t node);
/* The replica's directory is known and not online: what it had is gone (R1). */
bool replica_lost(const struct controller *c, const struct image_partition *p, node_id_t node);
/* It has what it vouches for: neither lost nor failed (R1, R19). */
bool replica_sound(const struct controller *c, const struct partition_id *id,
                   const struct image_partition *p, node_id_t node);
/* Where a new replica of the partition belongs; zero where the broker has no directory (R1). */
static inline size_t directory_choice(const struct partition_id *id, size_t count)
{
    return (id->topic.b[0] + (size_t)id->index) % count;
}
struct uuid replica_directory(const struct image_broker *broker, const struct partition_id *id);

/* What partition and broker states ask of a partition's leader and ISR. True: something was
 * emitted. */
bool repair(struct controller *c, const struct partition_id *id, const struct image_partition *p);
/* Calls act for each partition of the view; act may decide on it. */
typedef void (*partition_act)(struct controller *c, const struct partition_id *id,
                              const struct image_partition *p, void *context);
void each_partition(struct controller *c, partition_act act, void *context);
/* Repairs all that the broker leads or is in sync with; returns how many changed. */
size_t repair_broker(struct controller *c, node_id_t node);
size_t repair_all(struct controller *c);
/* Gives leaders to the partitions that waited for this broker, and takes those out of its ISRs that
 * stayed there because nobody else was known to live. */
void elect_waiting(struct controller *c, node_id_t node);
void elect_preferred_due(struct controller *c);
ProtobufCMessage *elections_request(struct controller *c,
                                    const Karst__ElectLeadersRequest *request);

/* ---- unclean.c ---- */

/* Those whose topic allows it: each tick. */
void unclean_tick(struct controller *c);
/* A person's order: it is decided at once, or when the live replicas have told how far their logs
 * go. */
err_t unclean_ordered(struct controller *c, const struct partition_id *id);
/* Answers, and into the reply what else the broker is asked. */
void unclean_take(struct controller *c, const Karst__HeartbeatRequest *request);
void unclean_ask(struct controller *c, node_id_t node, Karst__HeartbeatReply *reply);
void unclean_forget(struct controller *c); /* all questions */

/* ---- partitions.c, topics.c ---- */

ProtobufCMessage *partitions_alter(struct controller *c,
                                   const Karst__AlterPartitionRequest *request);
ProtobufCMessage *topics_create(struct controller *c, const Karst__CreateTopicsRequest *request);
ProtobufCMessage *topics_delete(struct controller *c, const Karst__DeleteTopicsRequest *request);

#endif
