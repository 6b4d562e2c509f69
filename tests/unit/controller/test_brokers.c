#include "unit/controller/lab.h"

#include "lib/check_main.h"

static enum broker_state state_of(const struct lab *lab, node_id_t node)
{
    return image_broker(lab_view(lab), node)->state;
}

START_TEST(a_broker_is_fenced_until_it_knows_its_registration)
{
    struct lab lab;
    lab_init(&lab, 0);
    const Karst__RegisterBrokerReply *reply =
        lab_register(&lab, &(struct lab_registration){.node = 1});
    ck_assert_int_eq(reply->error, ERR_OK);
    broker_epoch_t epoch = reply->broker_epoch;
    ck_assert_int_eq(epoch, image_offset(lab.committed) + 1); /* the offset of its record */
    ck_assert_int_eq(state_of(&lab, 1), BROKER_STATE_FENCED);
    lab_heartbeat_at(&lab, 1, epoch); /* not committed yet */
    ck_assert_int_eq(state_of(&lab, 1), BROKER_STATE_FENCED);
    lab_commit(&lab);
    const Karst__HeartbeatReply *beat = lab_heartbeat_at(&lab, 1, epoch - 1);
    ck_assert(beat->fenced);
    ck_assert(!beat->caught_up);
    beat = lab_heartbeat_at(&lab, 1, epoch);
    ck_assert(!beat->fenced);
    ck_assert(beat->caught_up);
    ck_assert_int_eq(beat->metadata_offset, epoch);
    ck_assert_str_eq(lab_records(&lab), "BrokerChange");
    lab_commit(&lab);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_registration_again_finds_its_epoch)
{
    struct lab lab;
    lab_init(&lab, 2);
    broker_epoch_t epoch = image_broker(lab_view(&lab), 2)->epoch;
    const Karst__RegisterBrokerReply *reply =
        lab_register(&lab, &(struct lab_registration){.node = 2});
    ck_assert_int_eq(reply->error, ERR_OK);
    ck_assert_int_eq(reply->broker_epoch, epoch);
    ck_assert_str_eq(lab_records(&lab), "");
    ck_assert_int_eq(state_of(&lab, 2), BROKER_STATE_ACTIVE);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_new_incarnation_ends_what_the_old_one_led)
{
    struct lab lab;
    lab_init(&lab, 3);
    struct partition_id led = lab_assigned(&lab, "led", 3, 1, 2, 3);
    struct partition_id followed = lab_assigned(&lab, "followed", 2, 2, 1);
    struct partition_id alone = lab_assigned(&lab, "alone", 1, 1);
    struct partition_id other = lab_assigned(&lab, "other", 2, 2, 3);
    lab_register(&lab, &(struct lab_registration){.node = 1, .life = 1});
    lab_commit(&lab);
    ck_assert_int_eq(state_of(&lab, 1), BROKER_STATE_FENCED);
    ck_assert_str_eq(lab_state(&lab, &led), "2 [2,3] e1 p1");
    ck_assert_str_eq(lab_state(&lab, &followed), "2 [2] e1 p1");
    ck_assert_str_eq(lab_state(&lab, &alone), "-1 [1] e1 p1");
    ck_assert_str_eq(lab_state(&lab, &other), "2 [2,3] e0 p0");
    lab_heartbeat(&lab, 1);
    lab_commit(&lab);
    ck_assert_str_eq(lab_state(&lab, &alone), "1 [1] e2 p2"); /* the same broker, a higher epoch */
    ck_assert_str_eq(lab_state(&lab, &led), "2 [2,3] e1 p1");
    lab_fini(&lab);
}
END_TEST

START_TEST(the_end_of_the_old_incarnation_is_seen_at_once_with_the_new)
{
    struct lab lab;
    lab_init(&lab, 2);
    lab_assigned(&lab, "led", 2, 1, 2);
    lab_register(&lab, &(struct lab_registration){.node = 1, .life = 1});
    ck_assert_str_eq(lab_records(&lab),
                     "BeginTransaction RegisterBroker PartitionChange EndTransaction");
    lab_fini(&lab);
}
END_TEST

START_TEST(all_brokers_back_from_a_power_cut_lose_no_isr_member_that_is_the_last)
{
    struct lab lab;
    lab_init(&lab, 3);
    struct partition_id id = lab_assigned(&lab, "t", 3, 1, 2, 3);
    for (node_id_t node = 1; node <= 3; node++)
        lab_register(&lab, &(struct lab_registration){.node = node, .life = 1});
    lab_commit(&lab);
    ck_assert_str_eq(lab_state(&lab, &id), "-1 [3] e3 p3");
    lab_heartbeat(&lab, 1);
    lab_heartbeat(&lab, 2);
    ck_assert_int_eq(lab_partition(&lab, &id)->leader, NO_NODE);
    lab_heartbeat(&lab, 3);
    ck_assert_str_eq(lab_state(&lab, &id), "3 [3] e4 p4");
    lab_commit(&lab);
    lab_fini(&lab);
}
END_TEST

/* After a power cut the image says of all that they are active; none of them has been heard of. Who
 * comes back has all that was acknowledged, and must not leave it to one that does not come. */
START_TEST(of_three_that_lost_power_two_are_enough)
{
    struct lab lab;
    lab_init(&lab, 3);
    struct partition_id ids[3] = {lab_assigned(&lab, "a", 3, 1, 2, 3),
                                  lab_assigned(&lab, "b", 3, 2, 3, 1),
                                  lab_assigned(&lab, "c", 3, 3, 1, 2)};
    lab_take_over(&lab);
    lab_commit(&lab);
    lab_join(&lab, 1, 1);
    lab_join(&lab, 2, 1);
    lab_run(&lab, LAB_SESSION_MS + 1000, 3);
    ck_assert_int_eq(state_of(&lab, 3), BROKER_STATE_FENCED);
    for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
        ck_assert_int_ne(lab_partition(&lab, &ids[i])->leader, NO_NODE);
        ck_assert_int_eq(lab_partition(&lab, &ids[i])->last_unclean_leader_epoch, -1);
    }
    lab_fini(&lab);
}
END_TEST

/* But not who may have lost what it promised (R1, R20). */
START_TEST(who_lost_its_disk_leaves_the_isr_to_others_though_nobody_heard_of_them)
{
    struct lab lab;
    lab_init(&lab, 2);
    struct partition_id id = lab_assigned(&lab, "t", 2, 1, 2);
    lab_take_over(&lab);
    lab_commit(&lab);
    lab_register(&lab, &(struct lab_registration){.node = 1, .life = 1, .directory = 77});
    lab_commit(&lab);
    ck_assert_str_eq(lab_state(&lab, &id), "2 [2] e1 p1");
    lab_fini(&lab);
}
END_TEST

START_TEST(of_those_who_fall_silent_together_the_first_one_back_leads)
{
    struct lab lab;
    lab_init(&lab, 4);
    struct partition_id id = lab_assigned(&lab, "t", 3, 2, 3, 4);
    for (int i = 0; i < LAB_SESSION_MS / 100 + 2; i++) {
        lab_tick(&lab, 100);
        lab_commit(&lab);
    }
    for (node_id_t node = 2; node <= 4; node++)
        ck_assert_int_eq(state_of(&lab, node), BROKER_STATE_FENCED);
    ck_assert_int_eq(lab_partition(&lab, &id)->leader, NO_NODE);
    ck_assert_int_eq(lab_partition(&lab, &id)->isr_count, 3);
    lab_join(&lab, 3, 1);
    ck_assert_int_eq(lab_partition(&lab, &id)->leader, 3);
    ck_assert_int_eq(lab_partition(&lab, &id)->isr_count, 1);
    lab_fini(&lab);
}
END_TEST

START_TEST(two_registrations_in_one_entry_have_different_epochs)
{
    struct lab lab;
    lab_init(&lab, 1);
    broker_epoch_t first =
        lab_register(&lab, &(struct lab_registration){.node = 1, .life = 1})->broker_epoch;
    broker_epoch_t second =
        lab_register(&lab, &(struct lab_registration){.node = 1, .life = 2})->broker_epoch;
    ck_assert_int_gt(second, first);
    lab_commit(&lab);
    lab_heartbeat(&lab, 1); /* and it does not wait for an offset that nobody writes */
    ck_assert_int_eq(state_of(&lab, 1), BROKER_STATE_ACTIVE);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_superseded_incarnation_does_not_come_back)
{
    struct lab lab;
    lab_init(&lab, 1);
    lab_join(&lab, 1, 1);
    ck_assert_int_eq(lab_register(&lab, &(struct lab_registration){.node = 1, .life = 0})->error,
                     ERR_STALE_BROKER_EPOCH);
    struct uuid living = lab_incarnation(1, 1);
    ck_assert(uuid_equal(&image_broker(lab_view(&lab), 1)->incarnation, &living));
    lab_fini(&lab);
}
END_TEST

START_TEST(a_broker_of_another_cluster_is_told_so)
{
    struct lab lab;
    lab_init(&lab, 1);
    const Karst__RegisterBrokerReply *reply =
        lab_register(&lab, &(struct lab_registration){.node = 7, .cluster = 99});
    ck_assert_int_eq(reply->error, ERR_INCONSISTENT_CLUSTER_ID);
    ck_assert_ptr_nonnull(strstr(reply->message, "another cluster"));
    ck_assert_ptr_null(image_broker(lab_view(&lab), 7));
    ck_assert_str_eq(lab_records(&lab), "");
    lab_fini(&lab);
}
END_TEST

START_TEST(a_registration_that_can_not_be_applied_leaves_nothing)
{
    struct lab lab;
    lab_init(&lab, 1);
    uint64_t digest = image_digest(lab_view(&lab));
    Karst__RegisterBrokerRequest request = KARST__REGISTER_BROKER_REQUEST__INIT;
    struct uuid cluster = lab_id(1), zero = {0};
    Karst__Listener listener = KARST__LISTENER__INIT, *listeners = &listener;
    char name[] = "RPC", host[] = "";
    listener.name = name;
    listener.host = host;
    request.node_id = 5;
    request.cluster_id = (ProtobufCBinaryData){16, cluster.b};
    request.incarnation = (ProtobufCBinaryData){16, zero.b};
    request.n_listeners = 1;
    request.listeners = &listeners;
    const Karst__RegisterBrokerReply *reply = lab_ask(&lab, &request.base, 5);
    ck_assert_int_eq(reply->error, ERR_INVALID_REQUEST);
    ck_assert_str_eq(lab_records(&lab), "");
    ck_assert_uint_eq(image_digest(lab_view(&lab)), digest);
    static char endless[200000]; /* more than a record may have */
    memset(endless, 'a', sizeof(endless) - 1);
    struct uuid incarnation = lab_incarnation(5, 0);
    request.incarnation = (ProtobufCBinaryData){16, incarnation.b};
    listener.host = endless;
    reply = lab_ask(&lab, &request.base, 5);
    ck_assert_int_eq(reply->error, ERR_INVALID_REQUEST);
    ck_assert_str_eq(lab_records(&lab), "");
    ck_assert_uint_eq(image_digest(lab_view(&lab)), digest);
    request.feature_min = 2;
    request.feature_max = 3;
    reply = lab_ask(&lab, &request.base, 5);
    ck_assert_int_eq(reply->error, ERR_UNSUPPORTED_VERSION);
    lab_join(&lab, 2, 0); /* and the next decision finds all in order */
    lab_fini(&lab);
}
END_TEST

START_TEST(a_lost_replica_leaves_the_isr_with_the_registration)
{
    struct lab lab;
    lab_init(&lab, 2);
    struct partition_id shared = lab_assigned(&lab, "shared", 2, 2, 1);
    struct partition_id alone = lab_assigned(&lab, "alone", 1, 1);
    lab_died(&lab, 1, 0);
    lab_commit(&lab);
    lab_register(&lab,
                 &(struct lab_registration){.node = 1, .life = 1, .lost = &alone, .lost_count = 1});
    lab_commit(&lab);
    lab_heartbeat(&lab, 1);
    lab_commit(&lab);
    ck_assert_int_eq(state_of(&lab, 1), BROKER_STATE_ACTIVE);
    /* The last member's data is gone: nobody leads before a person orders it (R1). */
    ck_assert_int_eq(lab_partition(&lab, &alone)->leader, NO_NODE);
    ck_assert_int_eq(lab_partition(&lab, &alone)->isr[0], 1);
    ck_assert_str_eq(lab_state(&lab, &shared), "2 [2] e0 p1");
    lab_run(&lab, 10000, 0);
    ck_assert_int_eq(lab_partition(&lab, &alone)->leader, NO_NODE);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_swapped_disk_is_a_lost_replica)
{
    struct lab lab;
    lab_init(&lab, 2);
    struct partition_id shared = lab_assigned(&lab, "shared", 2, 1, 2);
    struct partition_id alone = lab_assigned(&lab, "alone", 1, 1);
    lab_register(&lab, &(struct lab_registration){.node = 1, .life = 1, .directory = 777});
    lab_commit(&lab);
    lab_heartbeat(&lab, 1);
    lab_commit(&lab);
    ck_assert_int_eq(lab_partition(&lab, &alone)->leader, NO_NODE);
    ck_assert_str_eq(lab_state(&lab, &shared), "2 [2] e1 p1");
    /* It begins anew on the new disk, catches up, and may lead what it has. */
    ck_assert_int_eq(
        lab_alter(&lab, &(struct lab_alter){.id = shared, .isr_count = 2, .isr = {1, 2}})->error,
        ERR_OK);
    lab_died(&lab, 2, 0);
    lab_commit(&lab);
    ck_assert_int_eq(lab_partition(&lab, &shared)->leader, 1);
    ck_assert_int_eq(lab_partition(&lab, &alone)->leader, NO_NODE);
    lab_fini(&lab);
}
END_TEST

/* R20. Both topics are of broker 1 alone; one is acknowledged before it is flushed. */
START_TEST(a_last_replica_whose_page_cache_is_lost_comes_back_as_after_an_unclean_election)
{
    static const struct {
        bool clean;
        uint64_t boot;
        bool lost;
    } cases[] = {{true, 9, false}, {false, 0, false}, {false, 9, true}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct lab lab;
        lab_init(&lab, 1);
        lab_create(&lab, "cached", 1, 1, "flush.before.ack", "false", NULL);
        lab_create(&lab, "flushed", 1, 1, "flush.before.ack", "true", NULL);
        lab_commit(&lab);
        struct partition_id cached = lab_id_of(&lab, "cached", 0);
        struct partition_id flushed = lab_id_of(&lab, "flushed", 0);
        lab_register(&lab,
                     &(struct lab_registration){
                         .node = 1, .life = 1, .clean = cases[i].clean, .boot = cases[i].boot});
        lab_commit(&lab);
        lab_heartbeat(&lab, 1);
        lab_commit(&lab);
        const struct image_partition *p = lab_partition(&lab, &cached);
        ck_assert_int_eq(p->leader, 1);
        ck_assert_int_eq(p->last_unclean_leader_epoch > 0, cases[i].lost);
        ck_assert_int_eq(lab_partition(&lab, &flushed)->last_unclean_leader_epoch, -1);
        lab_fini(&lab);
    }
}
END_TEST

START_TEST(silence_fences_after_the_session)
{
    struct lab lab;
    lab_init(&lab, 3);
    struct partition_id id = lab_assigned(&lab, "t", 3, 1, 2, 3);
    lab_run(&lab, 1800, 1);
    ck_assert_int_eq(state_of(&lab, 1), BROKER_STATE_ACTIVE);
    lab_run(&lab, 600, 1);
    ck_assert_int_eq(state_of(&lab, 1), BROKER_STATE_FENCED);
    ck_assert_int_eq(state_of(&lab, 2), BROKER_STATE_ACTIVE);
    ck_assert_str_eq(lab_state(&lab, &id), "2 [2,3] e1 p1");
    lab_fini(&lab);
}
END_TEST

START_TEST(proof_of_death_fences_at_once_the_broker_first)
{
    struct lab lab;
    lab_init(&lab, 3);
    struct partition_id a = lab_assigned(&lab, "a", 3, 1, 2, 3);
    struct partition_id b = lab_assigned(&lab, "b", 3, 2, 3, 1);
    lab_died(&lab, 1, 0);
    ck_assert_str_eq(lab_records(&lab), "BrokerChange PartitionChange PartitionChange");
    ck_assert_str_eq(lab_state(&lab, &a), "2 [2,3] e1 p1");
    ck_assert_str_eq(lab_state(&lab, &b), "2 [2,3] e0 p1");
    lab_died(&lab, 1, 0);
    ck_assert_str_eq(lab_records(&lab), "");
    lab_commit(&lab);
    lab_join(&lab, 1, 1);
    lab_died(&lab, 1, 0); /* proof of an older life */
    ck_assert_str_eq(lab_records(&lab), "");
    lab_fini(&lab);
}
END_TEST

START_TEST(a_new_controller_gives_all_brokers_time)
{
    struct lab lab;
    lab_init(&lab, 2);
    lab_take_over(&lab);
    lab_commit(&lab);
    uint64_t waited = 0;
    while (state_of(&lab, 1) == BROKER_STATE_ACTIVE && waited < 20000) {
        lab_tick(&lab, 10);
        waited += 10;
    }
    /* R10: a session, and what two clocks may differ in it */
    ck_assert_uint_gt(waited, LAB_SESSION_MS + LAB_SESSION_MS / 200);
    ck_assert_uint_le(waited, LAB_SESSION_MS + LAB_SESSION_MS / 50);
    ck_assert_int_eq(state_of(&lab, 2), BROKER_STATE_FENCED);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_controller_that_slept_fences_nobody_for_it)
{
    struct lab lab;
    lab_init(&lab, 2);
    lab_tick(&lab, 30000);
    ck_assert_int_eq(state_of(&lab, 1), BROKER_STATE_ACTIVE);
    lab_tick(&lab, 200);
    ck_assert_int_eq(state_of(&lab, 2), BROKER_STATE_ACTIVE);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_sleeper_is_not_trusted_before_it_knows_that_it_was_fenced)
{
    struct lab lab;
    lab_init(&lab, 2);
    struct partition_id id = lab_assigned(&lab, "t", 2, 1, 2);
    int64_t before = image_offset(lab.committed);
    lab_run(&lab, 3000, 1);
    ck_assert_int_eq(state_of(&lab, 1), BROKER_STATE_FENCED);
    /* It wakes with the image of before, in which it leads. */
    ck_assert(lab_heartbeat_at(&lab, 1, before)->fenced);
    ck_assert_int_eq(state_of(&lab, 1), BROKER_STATE_FENCED);
    ck_assert(!lab_heartbeat(&lab, 1)->fenced);
    lab_commit(&lab);
    ck_assert_int_eq(lab_partition(&lab, &id)->leader, 2);
    lab_fini(&lab);
}
END_TEST

START_TEST(heartbeats_of_another_life_are_refused)
{
    struct lab lab;
    lab_init(&lab, 1);
    Karst__HeartbeatRequest request = KARST__HEARTBEAT_REQUEST__INIT;
    request.node_id = 1;
    request.broker_epoch = image_broker(lab_view(&lab), 1)->epoch - 1;
    const Karst__HeartbeatReply *reply = lab_ask(&lab, &request.base, 1);
    ck_assert_int_eq(reply->error, ERR_STALE_BROKER_EPOCH);
    ck_assert_ptr_nonnull(reply->message);
    request.node_id = 8;
    reply = lab_ask(&lab, &request.base, 8);
    ck_assert_int_eq(reply->error, ERR_BROKER_ID_NOT_REGISTERED);
    lab_fini(&lab);
}
END_TEST

START_TEST(only_brokers_speak_for_brokers)
{
    struct lab lab;
    lab_init(&lab, 1);
    Karst__HeartbeatRequest request = KARST__HEARTBEAT_REQUEST__INIT;
    request.node_id = 1;
    request.broker_epoch = image_broker(lab_view(&lab), 1)->epoch;
    const Karst__HeartbeatReply *reply = lab_ask(&lab, &request.base, NO_NODE);
    ck_assert_int_eq(reply->error, ERR_CLUSTER_AUTHORIZATION_FAILED);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_broker_that_asks_for_it_is_fenced_and_stays_so)
{
    struct lab lab;
    lab_init(&lab, 2);
    struct partition_id id = lab_assigned(&lab, "t", 2, 1, 2);
    Karst__HeartbeatRequest request = KARST__HEARTBEAT_REQUEST__INIT;
    request.node_id = 1;
    request.broker_epoch = image_broker(lab_view(&lab), 1)->epoch;
    request.metadata_offset = INT64_MAX;
    request.has_want_fence = request.want_fence = true;
    const Karst__HeartbeatReply *reply = lab_ask(&lab, &request.base, 1);
    ck_assert(reply->fenced);
    ck_assert_int_eq(lab_partition(&lab, &id)->leader, 2);
    lab_commit(&lab);
    reply = lab_ask(&lab, &request.base, 1);
    ck_assert(reply->fenced);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_leaving_broker_goes_when_it_knows_that_it_leads_nothing)
{
    struct lab lab;
    lab_init(&lab, 3);
    struct partition_id led = lab_assigned(&lab, "led", 3, 1, 2, 3);
    struct partition_id followed = lab_assigned(&lab, "followed", 2, 2, 1);
    struct partition_id alone = lab_assigned(&lab, "alone", 1, 1);
    int64_t before = image_offset(lab.committed);
    ck_assert(!lab_leave(&lab, 1)->may_shut_down);
    ck_assert_str_eq(lab_records(&lab), "BrokerChange PartitionChange PartitionChange");
    ck_assert_int_eq(state_of(&lab, 1), BROKER_STATE_LEAVING);
    ck_assert_str_eq(lab_state(&lab, &led), "2 [2,3] e1 p1");
    ck_assert_str_eq(lab_state(&lab, &followed), "2 [2] e0 p1");
    ck_assert_str_eq(lab_state(&lab, &alone), "1 [1] e0 p0"); /* leads on to its end */
    ck_assert(!lab_leave(&lab, 1)->may_shut_down);            /* not committed */
    lab_commit(&lab);
    Karst__HeartbeatRequest request = KARST__HEARTBEAT_REQUEST__INIT;
    request.node_id = 1;
    request.broker_epoch = image_broker(lab_view(&lab), 1)->epoch;
    request.metadata_offset = before;
    request.has_want_shutdown = request.want_shutdown = true;
    ck_assert(!((const Karst__HeartbeatReply *)lab_ask(&lab, &request.base, 1))->may_shut_down);
    ck_assert(lab_leave(&lab, 1)->may_shut_down);
    lab_died(&lab, 1, 0);
    ck_assert_str_eq(lab_state(&lab, &alone), "-1 [1] e1 p1");
    lab_commit(&lab);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_leaving_leader_hands_over_to_who_catches_up_meanwhile)
{
    struct lab lab;
    lab_init(&lab, 2);
    struct partition_id id = lab_assigned(&lab, "t", 2, 1, 2);
    lab_died(&lab, 2, 0);
    lab_commit(&lab);
    lab_join(&lab, 2, 1);
    ck_assert_str_eq(lab_state(&lab, &id), "1 [1] e0 p1");
    lab_leave(&lab, 1);
    lab_commit(&lab);
    ck_assert_int_eq(lab_partition(&lab, &id)->leader, 1);
    const struct lab_alter grow = {.id = id, .isr_count = 2, .isr = {1, 2}};
    ck_assert_int_eq(lab_alter(&lab, &grow)->error, ERR_OK);
    lab_commit(&lab);
    ck_assert(!lab_leave(&lab, 1)->may_shut_down);
    ck_assert_str_eq(lab_state(&lab, &id), "2 [2] e1 p3");
    lab_commit(&lab);
    ck_assert(lab_leave(&lab, 1)->may_shut_down);
    lab_fini(&lab);
}
END_TEST

START_TEST(producer_ids_come_in_blocks_that_nobody_else_gets)
{
    struct lab lab;
    lab_init(&lab, 2);
    Karst__AllocateProducerIdsRequest request = KARST__ALLOCATE_PRODUCER_IDS_REQUEST__INIT;
    for (node_id_t node = 1; node <= 2; node++) {
        request.node_id = node;
        request.broker_epoch = image_broker(lab_view(&lab), node)->epoch;
        const Karst__AllocateProducerIdsReply *reply = lab_ask(&lab, &request.base, node);
        ck_assert_int_eq(reply->error, ERR_OK);
        ck_assert_int_eq(reply->first_producer_id, (node - 1) * 1000);
        ck_assert_int_eq(reply->count, 1000);
    }
    request.broker_epoch++;
    const Karst__AllocateProducerIdsReply *reply = lab_ask(&lab, &request.base, 2);
    ck_assert_int_eq(reply->error, ERR_STALE_BROKER_EPOCH);
    lab_commit(&lab);
    lab_take_over(&lab); /* an uncommitted block may be given again, a committed one not */
    request.broker_epoch--;
    reply = lab_ask(&lab, &request.base, 2);
    ck_assert_int_eq(reply->first_producer_id, 2000);
    lab_fini(&lab);
}
END_TEST

CHECK_MAIN("controller/brokers", a_broker_is_fenced_until_it_knows_its_registration,
           a_registration_again_finds_its_epoch, a_new_incarnation_ends_what_the_old_one_led,
           the_end_of_the_old_incarnation_is_seen_at_once_with_the_new,
           all_brokers_back_from_a_power_cut_lose_no_isr_member_that_is_the_last,
           two_registrations_in_one_entry_have_different_epochs,
           a_superseded_incarnation_does_not_come_back, a_broker_of_another_cluster_is_told_so,
           a_registration_that_can_not_be_applied_leaves_nothing,
           a_lost_replica_leaves_the_isr_with_the_registration, a_swapped_disk_is_a_lost_replica,
           a_last_replica_whose_page_cache_is_lost_comes_back_as_after_an_unclean_election,
           silence_fences_after_the_session, proof_of_death_fences_at_once_the_broker_first,
           a_new_controller_gives_all_brokers_time, a_controller_that_slept_fences_nobody_for_it,
           a_sleeper_is_not_trusted_before_it_knows_that_it_was_fenced,
           heartbeats_of_another_life_are_refused, only_brokers_speak_for_brokers,
           a_broker_that_asks_for_it_is_fenced_and_stays_so,
           a_leaving_broker_goes_when_it_knows_that_it_leads_nothing,
           a_leaving_leader_hands_over_to_who_catches_up_meanwhile,
           producer_ids_come_in_blocks_that_nobody_else_gets,
           of_three_that_lost_power_two_are_enough,
           who_lost_its_disk_leaves_the_isr_to_others_though_nobody_heard_of_them,
           of_those_who_fall_silent_together_the_first_one_back_leads)
