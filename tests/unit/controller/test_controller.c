/* Random lives of a cluster: brokers restart, die, leave; leaders change their ISR; controllers are
 * deposed with decisions half committed. After each committed entry the rules are checked. */
#include <stdlib.h>

#include "lib/check_main.h"
#include "unit/controller/lab.h"

enum { BROKERS = 4, TOPICS = 4, PARTITIONS = 3, EVENTS = 1000, EPOCHS = 4096 };

/* What was ever committed of one partition. */
struct history {
    bool exists;
    struct uuid topic;
    leader_epoch_t leader_epoch, last_unclean;
    int32_t partition_epoch;
    /* By leader epoch: who led, in which life; 0: nobody yet. */
    node_id_t leader[EPOCHS];
    broker_epoch_t leader_life[EPOCHS];
    /* By node: the life that joined the ISR. */
    broker_epoch_t member_life[BROKERS + 1];
};

static struct history histories[TOPICS][PARTITIONS];
static int lives[BROKERS + 1];
static bool heard[BROKERS + 1];      /* by this controller, in this life */
static unsigned living[BROKERS + 1]; /* bits of those so known when this one registered */
static unsigned undecided;           /* events since all that was proposed was committed */
static bool one_record;              /* the last entry had only one: nothing happened between */
static const char *const names[TOPICS] = {"t0", "t1", "t2", "t3"};

static broker_epoch_t life_of(const struct image *image, node_id_t node)
{
    return image_broker(image, node)->epoch;
}

static void check_partition(const struct image *image, struct history *h, const struct uuid *topic,
                            const struct image_partition *p)
{
    if (!h->exists || !uuid_equal(&h->topic, topic))
        *h = (struct history){.exists = true, .topic = *topic, .last_unclean = -1};
    else if (one_record && p->leader_epoch > h->leader_epoch && p->leader != NO_NODE &&
             p->last_unclean_leader_epoch == h->last_unclean)
        ck_assert_int_ne(h->member_life[p->leader], 0); /* a clean election is from the ISR */
    ck_assert_int_ge(p->leader_epoch, h->leader_epoch);
    ck_assert_int_ge(p->partition_epoch, h->partition_epoch);
    ck_assert_int_ge(p->last_unclean_leader_epoch, h->last_unclean);
    h->leader_epoch = p->leader_epoch;
    h->partition_epoch = p->partition_epoch;
    h->last_unclean = p->last_unclean_leader_epoch;
    ck_assert_int_lt(p->leader_epoch, EPOCHS);
    if (p->leader != NO_NODE) {
        /* R2: one leader for each epoch, and one life of it. */
        broker_epoch_t *life = &h->leader_life[p->leader_epoch];
        ck_assert(*life == 0 ||
                  (*life == life_of(image, p->leader) && h->leader[p->leader_epoch] == p->leader));
        *life = life_of(image, p->leader);
        h->leader[p->leader_epoch] = p->leader;
        ck_assert(image_partition_in_isr(p, p->leader));
    }
    unsigned others = 0; /* members before and after */
    for (node_id_t node = 1; node <= BROKERS; node++)
        others |= h->member_life[node] != 0 && image_partition_in_isr(p, node) ? 1U << node : 0;
    for (node_id_t node = 1; node <= BROKERS; node++) {
        broker_epoch_t *joined = &h->member_life[node];
        if (!image_partition_in_isr(p, node)) {
            *joined = 0;
        } else {
            /* R2: membership is of one life; only where no other member is known to live it is
             * outlived, and not as a leader. Of several events nobody can tell what each knew. */
            broker_epoch_t life = life_of(image, node);
            bool alone = undecided != 1 || (living[node] & others & ~(1U << node)) == 0;
            ck_assert(*joined == 0 || *joined == life ||
                      (alone && (p->leader != node || p->leader_epoch > 0)));
            *joined = life;
        }
    }
}

static void check_image(const struct image *image)
{
    for (int t = 0; t < TOPICS; t++) {
        const struct image_topic *topic = image_topic_by_name(image, names[t]);
        for (int32_t i = 0; topic != NULL && i < topic->partition_count; i++)
            check_partition(image, &histories[t][i], &topic->id, &topic->partitions[i]);
        if (topic != NULL)
            ck_assert_int_eq(topic->partition_count, PARTITIONS); /* never a part of it (R23) */
    }
}

/* What must hold when all decisions are there. */
static void check_settled(const struct image *image)
{
    for (int t = 0; t < TOPICS; t++) {
        const struct image_topic *topic = image_topic_by_name(image, names[t]);
        for (int32_t i = 0; topic != NULL && i < topic->partition_count; i++) {
            const struct image_partition *p = &topic->partitions[i];
            bool waits = false, fenced = false, known = false;
            for (int k = 0; k < p->isr_count; k++) {
                const struct image_broker *member = image_broker(image, p->isr[k]);
                waits = waits || member->state == BROKER_STATE_ACTIVE;
                fenced = fenced || member->state == BROKER_STATE_FENCED;
                known = known || (member->state != BROKER_STATE_FENCED && heard[member->id]);
            }
            ck_assert(!fenced || !known);
            ck_assert(p->leader != NO_NODE || !waits);
            if (p->leader != NO_NODE)
                ck_assert_int_ne(image_broker(image, p->leader)->state, BROKER_STATE_FENCED);
        }
    }
}

/* Commits what was proposed, in entries cut at random; after stop records it ends, and the rest
 * stays. */
static void commit_some(struct lab *lab, size_t stop)
{
    struct record_list left = {0}, entry = {0};
    Karst__MetadataRecord record;
    struct bytes all = {lab->proposed.data, lab->proposed.len};
    size_t committed = 0;
    for (size_t at = 0; record_next(all, &at, &record); committed++) {
        record_list_add_packed(committed < stop ? &entry : &left, &record);
        bool cut = rng_chance(&lab->rng, 300000) || committed + 1 == stop ||
                   committed + 1 == lab->proposed.count;
        if (!cut || entry.count == 0)
            continue;
        struct image_edit *edit = image_edit_begin(lab->committed);
        err_t err = image_edit_apply_entry(edit, (struct bytes){entry.data, entry.len},
                                           image_offset(lab->committed) + 1);
        ck_assert_str_eq(err_name(err), "OK");
        image_unref(lab->committed);
        lab->committed = image_edit_finish(edit, NULL);
        controller_committed(lab->controller, lab->committed);
        one_record = entry.count == 1;
        check_image(lab->committed);
        record_list_fini(&entry);
    }
    record_list_fini(&lab->proposed);
    lab->proposed = left;
    if (lab->proposed.count == 0) {
        undecided = 0;
        ck_assert_uint_eq(image_digest(lab->committed), image_digest(lab_view(lab)));
        check_settled(lab->committed);
    }
}

/* ---- events ---- */

static node_id_t random_node(struct lab *lab)
{
    return (node_id_t)rng_between(&lab->rng, 1, BROKERS);
}

static bool random_partition(struct lab *lab, struct partition_id *ret_id)
{
    const struct image_topic *topic =
        image_topic_by_name(lab_view(lab), names[rng_below(&lab->rng, TOPICS)]);
    if (topic == NULL)
        return false;
    *ret_id = (struct partition_id){topic->id, (int32_t)rng_below(&lab->rng, PARTITIONS)};
    return true;
}

static void event_alter(struct lab *lab)
{
    struct partition_id id;
    if (!random_partition(lab, &id))
        return;
    const struct image_partition *p = lab_partition(lab, &id);
    struct lab_alter alter = {.id = id,
                              .from = rng_chance(&lab->rng, 100000) ? random_node(lab) : p->leader};
    if (alter.from == NO_NODE)
        return;
    for (int i = 0; i < p->replica_count; i++)
        if (p->replicas[i] == p->leader || rng_chance(&lab->rng, 600000))
            alter.isr[alter.isr_count++] = p->replicas[i];
    alter.partition_epoch_off = rng_chance(&lab->rng, 100000) ? -1 : 0;
    alter.member_epoch_off = rng_chance(&lab->rng, 100000) ? -1 : 0;
    bool grows = alter.isr_count > 0 && !image_partition_in_isr(p, alter.isr[alter.isr_count - 1]);
    err_t err = lab_alter(lab, &alter)->error;
    heard[alter.from] = true;
    if (alter.partition_epoch_off != 0) /* R3 */
        ck_assert_int_ne(err, ERR_OK);
    if (alter.member_epoch_off != 0 && grows) /* R4 */
        ck_assert_int_ne(err, ERR_OK);
}

static void event_elect(struct lab *lab)
{
    struct partition_id id;
    if (!random_partition(lab, &id))
        return;
    Karst__ElectPartition partition = KARST__ELECT_PARTITION__INIT, *rows = &partition;
    partition.topic_id = (ProtobufCBinaryData){16, id.topic.b};
    partition.index = id.index;
    Karst__ElectLeadersRequest request = KARST__ELECT_LEADERS_REQUEST__INIT;
    request.unclean = rng_chance(&lab->rng, 300000);
    request.n_partitions = 1;
    request.partitions = &rows;
    lab_ask(lab, &request.base, NO_NODE);
}

static void event_topic(struct lab *lab)
{
    const char *name = names[rng_below(&lab->rng, TOPICS)];
    const struct image_topic *topic = image_topic_by_name(lab_view(lab), name);
    if (topic == NULL) {
        lab_create(lab, name, PARTITIONS, (int32_t)rng_between(&lab->rng, 1, 3),
                   "unclean.leader.election.enable",
                   rng_chance(&lab->rng, 300000) ? "true" : "false", NULL);
        return;
    }
    if (!rng_chance(&lab->rng, 100000))
        return;
    Karst__DeleteTopic gone = KARST__DELETE_TOPIC__INIT, *rows = &gone;
    gone.name = (char *)(uintptr_t)name;
    Karst__DeleteTopicsRequest request = KARST__DELETE_TOPICS_REQUEST__INIT;
    request.n_topics = 1;
    request.topics = &rows;
    lab_ask(lab, &request.base, NO_NODE);
}

static void register_next(struct lab *lab, node_id_t node)
{
    living[node] = 0;
    for (node_id_t other = 1; other <= BROKERS; other++)
        if (heard[other] && image_broker(lab_view(lab), other)->state != BROKER_STATE_FENCED)
            living[node] |= 1U << other;
    lab_register(lab, &(struct lab_registration){.node = node, .life = ++lives[node]});
    heard[node] = false;
}

static void event_broker(struct lab *lab)
{
    node_id_t node = random_node(lab);
    switch (rng_below(&lab->rng, 8)) {
    case 0:
        register_next(lab, node);
        return;
    case 1:
        lab_died(lab, node, lives[node]);
        return;
    case 2:
        lab_leave(lab, node);
        break;
    case 3:
        lab_heartbeat_at(lab, node,
                         image_offset(lab->committed) - (int64_t)rng_below(&lab->rng, 20));
        break;
    default:
        lab_heartbeat(lab, node);
        break;
    }
    heard[node] = true;
}

static void take_over(struct lab *lab)
{
    memset(heard, 0, sizeof(heard));
    lab_take_over(lab);
}

static void begin(struct lab *lab)
{
    memset(histories, 0, sizeof(histories));
    memset(lives, 0, sizeof(lives));
    memset(living, 0, sizeof(living));
    memset(heard, 1, sizeof(heard)); /* lab_init has joined them */
    lab_init(lab, BROKERS);
}

static void random_event(struct lab *lab)
{
    if (rng_chance(&lab->rng, 400000))
        commit_some(lab, SIZE_MAX);
    undecided++;
    switch (rng_below(&lab->rng, 10)) {
    case 0:
    case 1:
        event_alter(lab);
        break;
    case 2:
        event_topic(lab);
        break;
    case 3:
        event_elect(lab);
        break;
    case 4:
        lab_tick(lab, rng_between(&lab->rng, 10, 900));
        break;
    case 5:
        commit_some(lab, SIZE_MAX);
        break;
    case 6:
        commit_some(lab, rng_below(&lab->rng, 8));
        break;
    default:
        event_broker(lab);
        break;
    }
    if (rng_chance(&lab->rng, 20000)) { /* deposed: a part of what it proposed is committed */
        commit_some(lab, rng_below(&lab->rng, 8));
        take_over(lab);
    }
}

START_TEST(the_rules_hold_over_random_lives)
{
    uint64_t seed = check_main_seed();
    for (uint64_t run = 0; run < 30; run++) {
        struct lab lab;
        begin(&lab);
        rng_seed(&lab.rng, seed + run);
        for (int event = 0; event < EVENTS; event++)
            random_event(&lab);
        /* Healed: all come back, and everything gets a leader. */
        take_over(&lab);
        commit_some(&lab, SIZE_MAX);
        for (node_id_t node = 1; node <= BROKERS; node++)
            register_next(&lab, node);
        commit_some(&lab, SIZE_MAX);
        for (node_id_t node = 1; node <= BROKERS; node++) {
            lab_heartbeat(&lab, node);
            heard[node] = true;
        }
        commit_some(&lab, SIZE_MAX);
        for (int t = 0; t < TOPICS; t++) {
            const struct image_topic *topic = image_topic_by_name(lab.committed, names[t]);
            for (int32_t i = 0; topic != NULL && i < topic->partition_count; i++)
                ck_assert_int_ne(topic->partitions[i].leader, NO_NODE);
        }
        lab_fini(&lab);
    }
}
END_TEST

START_TEST(a_snapshot_in_the_middle_changes_no_decision)
{
    uint64_t seed = check_main_seed();
    uint64_t digests[2];
    for (int restored = 0; restored < 2; restored++) {
        struct lab lab;
        begin(&lab);
        rng_seed(&lab.rng, seed);
        for (int event = 0; event < 400; event++) {
            random_event(&lab);
            if (event % 50 != 49)
                continue;
            commit_some(&lab, SIZE_MAX);
            if (restored) {
                uint8_t *data;
                size_t len;
                ck_assert_int_eq(image_encode_snapshot(lab.committed, &data, &len), ERR_OK);
                image_unref(lab.committed);
                ck_assert_int_eq(image_decode_snapshot((struct bytes){data, len}, &lab.committed),
                                 ERR_OK);
                free(data);
            }
            take_over(&lab);
        }
        commit_some(&lab, SIZE_MAX);
        digests[restored] = image_digest(lab.committed);
        lab_fini(&lab);
    }
    ck_assert_uint_eq(digests[0], digests[1]);
}
END_TEST

CHECK_MAIN("controller/controller", the_rules_hold_over_random_lives,
           a_snapshot_in_the_middle_changes_no_decision)
