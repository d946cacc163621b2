"""The calls of the client, one class per noun of ``koinonia.api``."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import date
from typing import Any, TypeVar
from uuid import UUID

import msgspec

from koinonia.api import (
    Endpoint,
    Page,
    Role,
    admins,
    analytics,
    audit,
    auth,
    billing,
    branches,
    churches,
    conversations,
    groups,
    members,
    messages,
    mfa,
    numbers,
    own_phones,
    passwords,
    recurring,
    sessions,
    templates,
)
from koinonia.client import progress
from koinonia.client.transport import Transport

T = TypeVar("T")
NOTHING = type(None)


class Noun:
    """Calls that belong together."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._call = transport.call

    async def _items(
        self,
        endpoint: Endpoint,
        kind: type[T],
        *,
        ids: Mapping[str, object] | None = None,
        filters: Mapping[str, object] | None = None,
    ) -> AsyncIterator[T]:
        """Every item of a list, a page of 100 at a time."""
        cursor: str | None = None
        while True:
            query = {**(filters or {}), "limit": 100, "cursor": cursor}
            page: Page[T] = await self._call(endpoint, Page[kind], ids=ids, query=query)  # type: ignore[valid-type]
            for item in page.data:
                yield item
            cursor = page.next_cursor
            if not page.has_more or cursor is None:
                return


class Auth(Noun):
    """Registering and sessions."""

    async def register(self, request: auth.RegisterRequest) -> auth.Session:
        return await self._call(auth.REGISTER, auth.Session, body=request)

    async def login(self, email: str, password: str) -> auth.Login:
        return await self._call(auth.LOGIN, auth.Login, body=auth.LoginRequest(email=email, password=password))

    async def refresh(self) -> auth.Session:
        return await self._call(auth.REFRESH, auth.Session)

    async def logout(self) -> None:
        await self._call(auth.LOGOUT, NOTHING)

    async def me(self) -> auth.Me:
        return await self._call(auth.ME, auth.Me)

    async def forgot_password(self, email: str) -> None:
        await self._call(passwords.FORGOT, NOTHING, body=passwords.PasswordForgotten(email=email))

    async def reset_password(self, token: str, password: str) -> None:
        await self._call(passwords.RESET, NOTHING, body=passwords.PasswordReset(token=token, password=password))

    async def change_password(self, current: str, new: str) -> None:
        request = passwords.PasswordChange(current_password=current, new_password=new)
        await self._call(passwords.CHANGE, NOTHING, body=request)

    def sessions(self) -> AsyncIterator[sessions.BrowserSession]:
        return self._items(sessions.LIST, sessions.BrowserSession)

    async def end_session(self, session_id: UUID, password: str) -> None:
        body = sessions.SessionEnd(password=password)
        await self._call(sessions.END, NOTHING, ids={"id": session_id}, body=body)

    async def end_other_sessions(self, password: str) -> None:
        await self._call(sessions.END_OTHERS, NOTHING, body=sessions.SessionEnd(password=password))


class OwnPhone(Noun):
    """The phone of whoever is logged in."""

    async def get(self) -> own_phones.OwnPhone:
        return await self._call(own_phones.GET, own_phones.OwnPhone)

    async def ask(self, phone: str) -> own_phones.OwnPhone:
        body = own_phones.OwnPhoneRequest(phone=phone)
        return await self._call(own_phones.ASK, own_phones.OwnPhone, body=body)

    async def confirm(self, code: str) -> own_phones.OwnPhone:
        body = own_phones.OwnPhoneConfirmation(code=code)
        return await self._call(own_phones.CONFIRM, own_phones.OwnPhone, body=body)

    async def remove(self) -> None:
        await self._call(own_phones.REMOVE, NOTHING)


class Mfa(Noun):
    """The second factor of whoever is logged in."""

    async def enable(self, password: str) -> mfa.MfaSecret:
        return await self._call(mfa.ENABLE, mfa.MfaSecret, body=mfa.MfaEnableRequest(password=password))

    async def confirm(self, code: str) -> mfa.RecoveryCodes:
        return await self._call(mfa.CONFIRM, mfa.RecoveryCodes, body=mfa.MfaConfirmRequest(code=code))

    async def verify(self, mfa_token: str, code: str) -> auth.Session:
        request = mfa.MfaVerifyRequest(mfa_token=mfa_token, code=code)
        return await self._call(mfa.VERIFY, auth.Session, body=request)

    async def recover(self, mfa_token: str, recovery_code: str) -> auth.Session:
        request = mfa.MfaVerifyRequest(mfa_token=mfa_token, recovery_code=recovery_code)
        return await self._call(mfa.VERIFY, auth.Session, body=request)

    async def recovery_codes(self, code: str) -> mfa.RecoveryCodes:
        return await self._call(mfa.RECOVERY_CODES, mfa.RecoveryCodes, body=mfa.MfaProofRequest(code=code))

    async def disable(self, password: str, code: str) -> None:
        await self._call(mfa.DISABLE, NOTHING, body=mfa.MfaDisableRequest(password=password, code=code))


class Admins(Noun):
    """Who works for the church."""

    def list(self) -> AsyncIterator[admins.AdminUser]:
        return self._items(admins.LIST, admins.AdminUser)

    async def invite(
        self, request: admins.InvitationRequest, *, idempotency_key: str | None = None
    ) -> admins.AdminUser:
        return await self._call(admins.INVITE, admins.AdminUser, body=request, idempotency_key=idempotency_key)

    async def accept(self, request: admins.InvitationAcceptance) -> admins.AdminUser:
        return await self._call(admins.ACCEPT, admins.AdminUser, body=request)

    async def change_role(self, admin_id: UUID, role: Role) -> admins.AdminUser:
        return await self._call(
            admins.CHANGE, admins.AdminUser, ids={"id": admin_id}, body=admins.AdminPatch(role=role)
        )

    async def remove(self, admin_id: UUID) -> None:
        await self._call(admins.REMOVE, NOTHING, ids={"id": admin_id})


class ApiKeys(Noun):
    """Keys for programs."""

    def list(self) -> AsyncIterator[auth.ApiKey]:
        return self._items(auth.LIST_API_KEYS, auth.ApiKey)

    async def create(self, request: auth.ApiKeyRequest, *, idempotency_key: str | None = None) -> auth.ApiKeyCreated:
        return await self._call(auth.CREATE_API_KEY, auth.ApiKeyCreated, body=request, idempotency_key=idempotency_key)

    async def rotate(self, key_id: UUID, *, overlap_hours: int = 24) -> auth.ApiKeyCreated:
        query = {"overlapHours": overlap_hours}
        return await self._call(auth.ROTATE_API_KEY, auth.ApiKeyCreated, ids={"id": key_id}, query=query)

    async def delete(self, key_id: UUID) -> None:
        await self._call(auth.DELETE_API_KEY, NOTHING, ids={"id": key_id})


class Churches(Noun):
    """A church's settings."""

    async def settings(self, church_id: UUID) -> churches.ChurchSettings:
        return await self._call(churches.GET_SETTINGS, churches.ChurchSettings, ids={"id": church_id})

    async def change(self, church_id: UUID, patch: churches.ChurchSettingsPatch) -> churches.ChurchSettings:
        return await self._call(churches.PATCH_SETTINGS, churches.ChurchSettings, ids={"id": church_id}, body=patch)

    async def sending(self, church_id: UUID) -> churches.Sending:
        return await self._call(churches.GET_SENDING, churches.Sending, ids={"id": church_id})

    async def pause_sending(self, church_id: UUID) -> churches.Sending:
        return await self._call(churches.PAUSE_SENDING, churches.Sending, ids={"id": church_id})

    async def resume_sending(self, church_id: UUID) -> churches.Sending:
        return await self._call(churches.RESUME_SENDING, churches.Sending, ids={"id": church_id})

    async def wait_until_ready(self, church_id: UUID, timeout_seconds: float = 60.0) -> churches.ChurchSettings:
        """Branch, plan and number are there.

        Raises:
            TimeoutError: not in time.
        """
        async with asyncio.timeout(timeout_seconds):
            while not (settings := await self.settings(church_id)).ready:  # noqa: ASYNC110 - another process makes it ready
                await asyncio.sleep(0.1)
        return settings


class Branches(Noun):
    """A church's places."""

    def list(self) -> AsyncIterator[branches.Branch]:
        return self._items(branches.LIST, branches.Branch)

    def stats(self) -> AsyncIterator[branches.BranchStats]:
        """Each branch's people, and how texts to them fared."""
        return self._items(branches.STATS, branches.BranchStats)

    async def create(self, request: branches.BranchRequest, *, idempotency_key: str | None = None) -> branches.Branch:
        return await self._call(branches.CREATE, branches.Branch, body=request, idempotency_key=idempotency_key)

    async def get(self, branch_id: UUID) -> branches.Branch:
        return await self._call(branches.GET, branches.Branch, ids={"id": branch_id})

    async def change(self, branch_id: UUID, patch: branches.BranchPatch) -> branches.Branch:
        return await self._call(branches.PATCH, branches.Branch, ids={"id": branch_id}, body=patch)

    async def delete(self, branch_id: UUID) -> None:
        await self._call(branches.DELETE, NOTHING, ids={"id": branch_id})


class Groups(Noun):
    """Members who are texted together."""

    def list(self, *, deleted: bool = False) -> AsyncIterator[groups.Group]:
        return self._items(groups.LIST, groups.Group, filters={"deleted": deleted or None})

    async def restore(self, group_id: UUID) -> groups.Group:
        return await self._call(groups.RESTORE, groups.Group, ids={"id": group_id})

    async def create(self, request: groups.GroupRequest, *, idempotency_key: str | None = None) -> groups.Group:
        return await self._call(groups.CREATE, groups.Group, body=request, idempotency_key=idempotency_key)

    async def get(self, group_id: UUID) -> groups.Group:
        return await self._call(groups.GET, groups.Group, ids={"id": group_id})

    async def change(self, group_id: UUID, patch: groups.GroupPatch) -> groups.Group:
        return await self._call(groups.PATCH, groups.Group, ids={"id": group_id}, body=patch)

    async def delete(self, group_id: UUID) -> None:
        await self._call(groups.DELETE, NOTHING, ids={"id": group_id})

    def members(self, group_id: UUID) -> AsyncIterator[members.Member]:
        return self._items(groups.LIST_MEMBERS, members.Member, ids={"id": group_id})

    async def add_members(self, group_id: UUID, member_ids: Sequence[UUID]) -> groups.Group:
        body = groups.GroupMembersRequest(member_ids=[*member_ids])
        return await self._call(groups.ADD_MEMBERS, groups.Group, ids={"id": group_id}, body=body)

    async def remove_members(self, group_id: UUID, member_ids: Sequence[UUID]) -> groups.Group:
        body = groups.GroupMembersRequest(member_ids=[*member_ids])
        return await self._call(groups.REMOVE_MEMBERS, groups.Group, ids={"id": group_id}, body=body)


class Templates(Noun):
    """Texts that are sent again."""

    def list(self) -> AsyncIterator[templates.Template]:
        return self._items(templates.LIST, templates.Template)

    async def create(
        self, request: templates.TemplateRequest, *, idempotency_key: str | None = None
    ) -> templates.Template:
        return await self._call(templates.CREATE, templates.Template, body=request, idempotency_key=idempotency_key)

    async def change(self, template_id: UUID, patch: templates.TemplatePatch) -> templates.Template:
        return await self._call(templates.PATCH, templates.Template, ids={"id": template_id}, body=patch)

    async def delete(self, template_id: UUID) -> None:
        await self._call(templates.DELETE, NOTHING, ids={"id": template_id})


class Members(Noun):
    """The people a church texts."""

    def list(
        self,
        *,
        search: str | None = None,
        branch_id: UUID | None = None,
        group_id: UUID | None = None,
        opt_in: bool | None = None,
        sort: members.Sort | None = None,
        deleted: bool | None = None,
    ) -> AsyncIterator[members.Member]:
        filters = {"search": search, "branchId": branch_id, "groupId": group_id, "optIn": opt_in}
        filters |= {"sort": sort, "deleted": deleted}
        return self._items(members.LIST, members.Member, filters=filters)

    async def create(self, request: members.MemberRequest, *, idempotency_key: str | None = None) -> members.Member:
        return await self._call(members.CREATE, members.Member, body=request, idempotency_key=idempotency_key)

    async def get(self, member_id: UUID) -> members.Member:
        return await self._call(members.GET, members.Member, ids={"id": member_id})

    async def change(self, member_id: UUID, patch: members.MemberPatch) -> members.Member:
        return await self._call(members.PATCH, members.Member, ids={"id": member_id}, body=patch)

    async def delete(self, member_id: UUID) -> None:
        await self._call(members.DELETE, NOTHING, ids={"id": member_id})

    def duplicates(self) -> AsyncIterator[members.LikelyDouble]:
        """Pairs of members who are likely one person."""
        return self._items(members.LIST_DOUBLES, members.LikelyDouble)

    async def merge(self, member_id: UUID, other_id: UUID) -> members.Member:
        """Merge another member into this one."""
        body = members.MergeRequest(member_id=other_id)
        return await self._call(members.MERGE, members.Member, ids={"id": member_id}, body=body)

    async def restore(self, member_id: UUID) -> members.Member:
        return await self._call(members.RESTORE, members.Member, ids={"id": member_id})

    def messages(self, member_id: UUID) -> AsyncIterator[members.MemberMessage]:
        """What this person got or did not get, newest first."""
        return self._items(members.LIST_MESSAGES, members.MemberMessage, ids={"id": member_id})

    async def import_rows(
        self,
        rows: Sequence[Mapping[str, Any]],
        group_ids: Sequence[UUID] = (),
        *,
        idempotency_key: str | None = None,
    ) -> members.ImportResult:
        """Rows with the names of ``MemberRequest`` in camelCase."""
        body = members.MemberImportRequest(members=[*rows], group_ids=[*group_ids])
        return await self._call(members.IMPORT, members.ImportResult, body=body, idempotency_key=idempotency_key)

    async def import_csv(
        self,
        csv: str | bytes,
        *,
        mapping: Mapping[str, str | None] | None = None,
        dry_run: bool = False,
        background: bool = False,
        idempotency_key: str | None = None,
    ) -> members.ImportResult:
        """A CSV file's content with a header row; where its status is ``running``, ask ``get_import`` how far it is."""
        query = {
            "mapping": None if mapping is None else msgspec.json.encode(mapping).decode(),
            "dryRun": dry_run or None,
            "background": background or None,
        }
        return await self._call(
            members.IMPORT,
            members.ImportResult,
            query=query,
            raw=csv.encode() if isinstance(csv, str) else csv,
            content_type="text/csv",
            idempotency_key=idempotency_key,
        )

    async def get_import(self, import_id: UUID) -> members.ImportResult:
        """How far an import is."""
        return await self._call(members.GET_IMPORT, members.ImportResult, ids={"id": import_id})


class Messages(Noun):
    """What a church sends."""

    async def preview(self, request: messages.SendRequest) -> messages.MessagePreview:
        return await self._call(messages.PREVIEW, messages.MessagePreview, body=request)

    async def send_to_me(
        self, request: messages.DraftRequest, *, idempotency_key: str | None = None
    ) -> messages.DraftSent:
        """To the phone that the caller has confirmed, see ``own_phone``."""
        return await self._call(messages.SEND_TO_ME, messages.DraftSent, body=request, idempotency_key=idempotency_key)

    async def send(self, request: messages.SendRequest, *, idempotency_key: str | None = None) -> messages.Message:
        answer = await self._call(
            messages.SEND, messages.MessageEnvelope, body=request, idempotency_key=idempotency_key
        )
        return answer.message

    def list(
        self,
        *,
        status: messages.MessageStatus | None = None,
        search: str | None = None,
        tag: str | None = None,
        test: bool | None = None,
    ) -> AsyncIterator[messages.Message]:
        filters = {"status": status, "search": search, "tag": tag, "test": test}
        return self._items(messages.LIST, messages.Message, filters=filters)

    async def get(self, message_id: UUID) -> messages.Message:
        return await self._call(messages.GET, messages.Message, ids={"id": message_id})

    async def change(self, message_id: UUID, patch: messages.MessagePatch) -> messages.Message:
        """Change a message that still waits for its time."""
        return await self._call(messages.PATCH, messages.Message, ids={"id": message_id}, body=patch)

    async def cancel(self, message_id: UUID, *, idempotency_key: str | None = None) -> messages.CancelAnswer:
        return await self._call(
            messages.CANCEL, messages.CancelAnswer, ids={"id": message_id}, idempotency_key=idempotency_key
        )

    async def stop(self, *, idempotency_key: str | None = None) -> messages.StopAnswer:
        """Cancel everything that is not finished, and pause the church's sending."""
        return await self._call(messages.STOP, messages.StopAnswer, idempotency_key=idempotency_key)

    async def pause(self, message_id: UUID) -> messages.Message:
        return await self._call(messages.PAUSE, messages.Message, ids={"id": message_id})

    async def resume(self, message_id: UUID) -> messages.Message:
        return await self._call(messages.RESUME, messages.Message, ids={"id": message_id})

    async def tags(self) -> Sequence[messages.TagUse]:
        """The tags that messages have, those used last first."""
        return (await self._call(messages.LIST_TAGS, messages.TagsInUse)).data

    async def approve(self, message_id: UUID, *, at_once: bool = False) -> messages.Message:
        """Let a message be sent that somebody else has asked for; ``at_once``: also when its time has passed."""
        body = messages.ApproveRequest(at_once=at_once)
        return await self._call(messages.APPROVE, messages.Message, ids={"id": message_id}, body=body)

    async def reject(self, message_id: UUID, reason: str) -> messages.Message:
        body = messages.RejectRequest(reason=reason)
        return await self._call(messages.REJECT, messages.Message, ids={"id": message_id}, body=body)

    async def resend_failed(self, message_id: UUID, *, idempotency_key: str | None = None) -> messages.Message:
        """Send a message again to those whom it did not reach; the new message."""
        envelope = await self._call(
            messages.RESEND_FAILED, messages.MessageEnvelope, ids={"id": message_id}, idempotency_key=idempotency_key
        )
        return envelope.message

    async def send_again(self, message_id: UUID) -> messages.Message:
        """Ask the plan once more for a declined message."""
        return await self._call(messages.SEND_AGAIN, messages.Message, ids={"id": message_id})

    def recipients(
        self, message_id: UUID, *, status: messages.RecipientStatus | None = None
    ) -> AsyncIterator[messages.Recipient]:
        return self._items(
            messages.LIST_RECIPIENTS, messages.Recipient, ids={"id": message_id}, filters={"status": status}
        )

    async def resolve(
        self, message_id: UUID, recipient_id: UUID, request: messages.ResolveRequest
    ) -> messages.Recipient:
        ids = {"id": message_id, "recipientId": recipient_id}
        return await self._call(messages.RESOLVE_RECIPIENT, messages.Recipient, ids=ids, body=request)

    async def trail(self, message_id: UUID, recipient_id: UUID) -> messages.Trail:
        """Everything that happened to one copy, oldest first."""
        ids = {"id": message_id, "recipientId": recipient_id}
        return await self._call(messages.RECIPIENT_TRAIL, messages.Trail, ids=ids)

    def events(self, message_id: UUID) -> AsyncIterator[messages.MessageProgress]:
        """Live progress from the present state to the last; broken streams are taken up again."""
        return progress.follow(self._transport, message_id)

    async def wait_until_completed(self, message_id: UUID, timeout_seconds: float = 300.0) -> messages.Message:
        """Follow the message to its last state.

        Raises:
            TimeoutError: not in time.
        """
        async with asyncio.timeout(timeout_seconds):
            async for _state in self.events(message_id):
                pass
        return await self.get(message_id)


class RecurringMessages(Noun):
    """What a church sends again and again."""

    def list(self) -> AsyncIterator[recurring.RecurringMessage]:
        return self._items(recurring.LIST, recurring.RecurringMessage)

    async def create(
        self, request: recurring.RecurringRequest, *, idempotency_key: str | None = None
    ) -> recurring.RecurringMessage:
        return await self._call(
            recurring.CREATE, recurring.RecurringMessage, body=request, idempotency_key=idempotency_key
        )

    async def get(self, recurring_id: UUID) -> recurring.RecurringMessage:
        return await self._call(recurring.GET, recurring.RecurringMessage, ids={"id": recurring_id})

    async def change(self, recurring_id: UUID, patch: recurring.RecurringPatch) -> recurring.RecurringMessage:
        return await self._call(recurring.PATCH, recurring.RecurringMessage, ids={"id": recurring_id}, body=patch)

    async def delete(self, recurring_id: UUID) -> None:
        await self._call(recurring.DELETE, NOTHING, ids={"id": recurring_id})


class Conversations(Noun):
    """The inbox."""

    def list(
        self, *, status: conversations.ConversationStatus | None = None
    ) -> AsyncIterator[conversations.Conversation]:
        return self._items(conversations.LIST, conversations.Conversation, filters={"status": status})

    async def get(
        self, conversation_id: UUID, *, limit: int = 20, cursor: str | None = None
    ) -> conversations.ConversationThread:
        """The conversation with one page of its texts."""
        query = {"limit": limit, "cursor": cursor}
        return await self._call(
            conversations.GET, conversations.ConversationThread, ids={"id": conversation_id}, query=query
        )

    async def reply(
        self, conversation_id: UUID, content: str, *, idempotency_key: str | None = None
    ) -> conversations.ConversationMessage:
        return await self._call(
            conversations.REPLY,
            conversations.ConversationMessage,
            ids={"id": conversation_id},
            body=conversations.ReplyRequest(content=content),
            idempotency_key=idempotency_key,
        )

    async def mark_read(self, conversation_id: UUID) -> conversations.Conversation:
        return await self._call(conversations.READ, conversations.Conversation, ids={"id": conversation_id})

    async def set_status(
        self, conversation_id: UUID, status: conversations.ConversationStatus
    ) -> conversations.Conversation:
        body = conversations.ConversationStatusRequest(status=status)
        return await self._call(
            conversations.SET_STATUS, conversations.Conversation, ids={"id": conversation_id}, body=body
        )


class Billing(Noun):
    """Plans and usage."""

    async def plans(self) -> list[billing.Plan]:
        page = await self._call(billing.LIST_PLANS, Page[billing.Plan])
        return page.data

    async def subscription(self) -> billing.Subscription:
        return await self._call(billing.GET_SUBSCRIPTION, billing.Subscription)

    async def usage(self, since: date | None = None, until: date | None = None) -> billing.Usage:
        """UTC days, ``until`` not included; without them the present period."""
        return await self._call(billing.GET_USAGE, billing.Usage, query={"from": since, "to": until})


class Analytics(Noun):
    """Figures."""

    async def stats(self) -> analytics.Dashboard:
        return await self._call(analytics.STATS, analytics.Dashboard)

    async def delivery(self, since: date | None = None, until: date | None = None) -> analytics.DeliveryByDay:
        """Days of the church's time zone, ``until`` included; without them the last 30."""
        return await self._call(analytics.DELIVERY, analytics.DeliveryByDay, query={"from": since, "to": until})


class Numbers(Noun):
    """The church's own numbers."""

    def list(self) -> AsyncIterator[numbers.Number]:
        return self._items(numbers.LIST, numbers.Number)

    async def pause(self, number_id: UUID) -> numbers.Number:
        return await self._call(numbers.PAUSE, numbers.Number, ids={"id": number_id})

    async def resume(self, number_id: UUID) -> numbers.Number:
        return await self._call(numbers.RESUME, numbers.Number, ids={"id": number_id})


class Audit(Noun):
    """Who did what."""

    def list(self, *, action: str | None = None, actor_id: UUID | None = None) -> AsyncIterator[audit.AuditEntry]:
        return self._items(audit.LIST, audit.AuditEntry, filters={"action": action, "actorId": actor_id})
