/* err.h - one table of errors: Kafka's codes, and a few that never leave the process.
 *
 * An err_t is the wire code itself: Kafka's number where Kafka has the error, 10,000 and above for
 * ours. The sentence is for a person: what happened, and what to do where that is known. */
#ifndef KARST_BASE_ERR_H
#define KARST_BASE_ERR_H

#include <stdbool.h>
#include <stdint.h>

typedef int32_t err_t;

/* X(name, code, retriable, sentence) */
#define ERR_MAP(X)                                                                                 \
    X(UNKNOWN_SERVER_ERROR, -1, false, "the broker failed in an unexpected way; see its log")      \
    X(OK, 0, false, "done")                                                                        \
    X(OFFSET_OUT_OF_RANGE, 1, false, "the offset is outside the log of this partition")            \
    X(CORRUPT_MESSAGE, 2, true, "a record batch failed its checks (CRC, size or counts)")          \
    X(UNKNOWN_TOPIC_OR_PARTITION, 3, true, "this cluster has no such topic or partition")          \
    X(LEADER_NOT_AVAILABLE, 5, true, "the partition has no leader at present")                     \
    X(NOT_LEADER_OR_FOLLOWER, 6, true, "this broker does not lead the partition")                  \
    X(REQUEST_TIMED_OUT, 7, true, "the request timed out; its outcome is unknown")                 \
    X(BROKER_NOT_AVAILABLE, 8, false, "the broker is not available")                               \
    X(REPLICA_NOT_AVAILABLE, 9, true, "the replica is not available on this broker")               \
    X(MESSAGE_TOO_LARGE, 10, false, "a record batch is larger than max.message.bytes")             \
    X(NETWORK_EXCEPTION, 13, true, "the connection was lost before the answer came")               \
    X(INVALID_TOPIC_EXCEPTION, 17, false,                                                          \
      "the topic name is illegal: use 1 to 249 of a-z A-Z 0-9 . _ - (but not '.' or '..')")        \
    X(RECORD_LIST_TOO_LARGE, 18, false, "the records are larger than a segment")                   \
    X(NOT_ENOUGH_REPLICAS, 19, true, "fewer replicas are in sync than min.insync.replicas asks")   \
    X(NOT_ENOUGH_REPLICAS_AFTER_APPEND, 20, true,                                                  \
      "the records were written, then the in-sync replicas fell below min.insync.replicas")        \
    X(INVALID_REQUIRED_ACKS, 21, false, "acks must be 0, 1 or all (-1)")                           \
    X(TOPIC_AUTHORIZATION_FAILED, 29, false, "not allowed on this topic")                          \
    X(CLUSTER_AUTHORIZATION_FAILED, 31, false, "not allowed on this cluster")                      \
    X(INVALID_TIMESTAMP, 32, false, "a record's timestamp is out of range")                        \
    X(UNSUPPORTED_VERSION, 35, false, "the broker does not know this request or version")          \
    X(TOPIC_ALREADY_EXISTS, 36, false, "a topic of this name exists already")                      \
    X(INVALID_PARTITIONS, 37, false, "the number of partitions is out of range")                   \
    X(INVALID_REPLICATION_FACTOR, 38, false,                                                       \
      "the replication factor is below 1 or above the number of live brokers")                     \
    X(INVALID_REPLICA_ASSIGNMENT, 39, false, "the replica assignment is illegal")                  \
    X(INVALID_CONFIG, 40, false, "a configuration name or value is illegal")                       \
    X(NOT_CONTROLLER, 41, true, "this broker is not the active controller")                        \
    X(INVALID_REQUEST, 42, false, "the request is malformed")                                      \
    X(UNSUPPORTED_FOR_MESSAGE_FORMAT, 43, false, "only record batches of format v2 are taken")     \
    X(POLICY_VIOLATION, 44, false, "the request breaks a policy of this cluster")                  \
    X(OUT_OF_ORDER_SEQUENCE_NUMBER, 45, false,                                                     \
      "the producer's sequence number leaves a gap: an earlier batch is missing")                  \
    X(DUPLICATE_SEQUENCE_NUMBER, 46, false, "the batch was written before")                        \
    X(INVALID_PRODUCER_EPOCH, 47, false, "a newer instance of this producer has taken over")       \
    X(KAFKA_STORAGE_ERROR, 56, true, "the log directory of this replica is offline")               \
    X(LOG_DIR_NOT_FOUND, 57, false, "no such log directory")                                       \
    X(UNKNOWN_PRODUCER_ID, 59, false, "the broker does not know this producer id")                 \
    X(NOT_ENOUGH_SPACE, 10006, true, "the log directory is full: free space or move partitions")   \
    X(FETCH_SESSION_ID_NOT_FOUND, 70, true, "the fetch session is unknown")                        \
    X(FENCED_LEADER_EPOCH, 74, true, "the leader epoch of the request is old")                     \
    X(UNKNOWN_LEADER_EPOCH, 75, true, "the leader epoch of the request is not known here yet")     \
    X(STALE_BROKER_EPOCH, 77, false, "a newer incarnation of this broker has registered")          \
    X(OFFSET_NOT_AVAILABLE, 78, true, "the new leader does not know this offset yet; try again")   \
    X(PREFERRED_LEADER_NOT_AVAILABLE, 80, true, "the preferred leader is not in sync")             \
    X(ELIGIBLE_LEADERS_NOT_AVAILABLE, 83, true, "no replica may lead the partition at present")    \
    X(ELECTION_NOT_NEEDED, 84, false, "the partition has that leader already")                     \
    X(INVALID_RECORD, 87, false, "a record breaks the rules of its topic")                         \
    X(THROTTLING_QUOTA_EXCEEDED, 89, true, "the broker is at its limit; try again later")          \
    X(PRODUCER_FENCED, 90, false, "a newer instance of this producer has taken over")              \
    X(UNKNOWN_TOPIC_ID, 100, true, "this cluster has no topic of that id")                         \
    X(DUPLICATE_BROKER_REGISTRATION, 101, true, "another live broker has this node id")            \
    X(BROKER_ID_NOT_REGISTERED, 102, true, "this broker is not registered")                        \
    X(INCONSISTENT_TOPIC_ID, 103, true, "the topic was deleted and made again")                    \
    X(INCONSISTENT_CLUSTER_ID, 104, false, "the peer belongs to another cluster")                  \
    X(INVALID_UPDATE_VERSION, 95, true, "the partition changed meanwhile")                         \
    X(INELIGIBLE_REPLICA, 107, true, "a replica that was to join the ISR may not")                 \
    X(NEW_LEADER_ELECTED, 108, true, "a new leader was elected meanwhile")                         \
    X(INVALID_VOTER_KEY, 125, false,                                                               \
      "the voter of this id is another one: its log directory was replaced")                       \
    X(DUPLICATE_VOTER, 126, false, "this node is a voter of the metadata quorum already")          \
    X(VOTER_NOT_FOUND, 127, false, "this node is no voter of the metadata quorum")                 \
    X(FULL, 10000, true, "a bounded queue is full")                                                \
    X(NO_MEMORY, 10001, true, "out of memory")                                                     \
    X(IO, 10002, false, "an input or output operation failed")                                     \
    X(NOT_FOUND, 10003, false, "no such thing")                                                    \
    X(CORRUPT, 10004, false, "stored bytes failed their checks")                                   \
    X(EXISTS, 10005, false, "it exists already")                                                   \
    X(CLOSED, 10007, false, "closed")                                                              \
    X(REFUSED, 10008, true, "connection refused")                                                  \
    X(UNREACHABLE, 10009, true, "the peer can not be reached")                                     \
    X(SHORT, 10010, false, "the bytes end too early")                                              \
    X(CANCELED, 10011, false, "canceled")                                                          \
    X(INVALID, 10012, false, "an argument is out of range")                                        \
    X(BUSY, 10013, true, "in use")

enum err_code {
#define ERR_ENUM(name, code, retriable, sentence) ERR_##name = (code),
    ERR_MAP(ERR_ENUM)
#undef ERR_ENUM
};

/* "NOT_LEADER_OR_FOLLOWER"; never NULL, also for codes that are not in the table. */
const char *err_name(err_t err);
/* The sentence; never NULL. */
const char *err_sentence(err_t err);
bool err_retriable(err_t err);
/* From errno of a failed file or socket call. */
err_t err_from_errno(int error);

#endif
