//! Functions of the module API, as this server has them.

use redis_module::raw;

/// A function of the API that every supported server has (Redis 7.0 and later). It is looked up at load; were one
/// missing, [`missing_function`] refuses to load, so that the panic below cannot be reached afterwards.
macro_rules! api {
    ($name:ident) => {
        match raw::$name {
            Some(function) => function,
            None => $crate::redis::api::lacks(stringify!($name)),
        }
    };
}

#[cold]
#[expect(clippy::panic, reason = "caught at the door; unreachable once `missing_function` has passed")]
pub(super) fn lacks(name: &str) -> ! {
    panic!("server lacks {name}")
}

/// The first function that this server lacks, if any.
pub(super) fn missing_function() -> Option<&'static str> {
    macro_rules! first_missing {
        ($($name:ident)+) => {
            // SAFETY: reads of pointers that were set before this call and are never written again.
            unsafe { $(if (&raw const raw::$name).read().is_none() { return Some(stringify!($name)); })+ }
        };
    }
    first_missing!(
        RedisModule_BlockClient RedisModule_CloseKey RedisModule_Call RedisModule_CallReplyInteger RedisModule_CallReplyType
        RedisModule_CreateCommand RedisModule_CreateString RedisModule_CreateStringFromLongLong RedisModule_FreeCallReply
        RedisModule_FreeString RedisModule_GetCommand RedisModule_GetContextFlags RedisModule_GetExpire RedisModule_GetRandomBytes
        RedisModule_GetBlockedClientHandle RedisModule_GetSelectedDb RedisModule_GetServerInfo RedisModule_FreeServerInfo RedisModule_ServerInfoGetField RedisModule_HashGet
        RedisModule_HashSet RedisModule_KeyType RedisModule_InfoAddFieldCString RedisModule_InfoAddFieldULongLong RedisModule_InfoAddSection RedisModule_LoadConfigs
        RedisModule_Log RedisModule_NotifyKeyspaceEvent RedisModule_OpenKey RedisModule_RegisterInfoFunc
        RedisModule_PublishMessage RedisModule_RegisterNumericConfig RedisModule_Replicate RedisModule_ReplyWithArray
        RedisModule_ReplyWithError RedisModule_ReplyWithLongLong RedisModule_ReplyWithMap RedisModule_ReplyWithSimpleString
        RedisModule_ReplyWithStringBuffer RedisModule_SetCommandInfo RedisModule_SetDisconnectCallback RedisModule_SetModuleOptions
        RedisModule_SignalModifiedKey RedisModule_StreamAdd RedisModule_StreamIteratorNextField
        RedisModule_StreamIteratorNextID RedisModule_StreamIteratorStart RedisModule_StreamIteratorStop
        RedisModule_StreamTrimByLength RedisModule_StringPtrLen RedisModule_SubscribeToKeyspaceEvents RedisModule_SubscribeToServerEvent
        RedisModule_UnblockClient RedisModule_UnlinkKey RedisModule_ValueLength RedisModule_ZsetAdd RedisModule_ZsetFirstInScoreRange RedisModule_ZsetLastInScoreRange
        RedisModule_ZsetRangeCurrentElement RedisModule_ZsetRangeEndReached RedisModule_ZsetRangeNext
        RedisModule_ZsetRangeStop RedisModule_ZsetScore
    );
    None
}

pub(super) use api;
