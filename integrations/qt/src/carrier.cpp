// The reactor's place in a Qt event loop: one object that watches the selector's file descriptor,
// can post itself an event, and hears when the loop begins an iteration. It decides nothing; that
// is backend.rs. QtCore only, Qt 5.15 or 6, and no moc.
//
// Qt does not let exceptions pass through its event loop. Every function here is noexcept, so one
// that a slot throws while Rust waits in the loop ends the program in std::terminate, and does not
// unwind through Rust.

#include <QAbstractEventDispatcher>
#include <QCoreApplication>
#include <QEvent>
#include <QHash>
#include <QSocketNotifier>
#include <QThread>
#include <QVariant>

extern "C" {
// What is implemented in Rust. None of these unwinds.
struct EntwinedQtCalls {
    // The posted event has arrived.
    void (*turn)(const void *data);
    // The file descriptor is readable.
    void (*readable)(const void *data);
    // The timer has fired.
    void (*timeout)(const void *data);
    // The loop begins an iteration.
    void (*before_iteration)(const void *data);
    // It has begun one, has delivered the posted events, and sleeps next if there are no others.
    void (*about_to_block)(const void *data);
    // The application has left its main loop.
    void (*about_to_quit)(const void *data);
    // The application was deleted.
    void (*application_gone)(const void *data);
    // A window draws: `window` only identifies it. `hertz` is 0 if it is not known.
    void (*frame_begins)(const void *data, const void *window, double hertz);
    void (*frame_ends)(const void *data, const void *window);
    void (*window_gone)(const void *data, const void *window);
};
}

namespace {

QEvent::Type turn_event()
{
    static const auto type = static_cast<QEvent::Type>(QEvent::registerEventType());
    return type;
}

} // namespace

class EntwinedQtCarrier final : public QSocketNotifier
{
public:
    EntwinedQtCarrier(int fd, const EntwinedQtCalls *calls, const void *data)
        : QSocketNotifier(fd, QSocketNotifier::Read), calls_(*calls), data_(data)
    {
        // Qt's own dispatcher says `awake` when it begins an iteration, and `aboutToBlock` in the
        // middle of it. The one on GLib says either of them when it begins one.
        auto *dispatcher = QAbstractEventDispatcher::instance();
        auto *about_to_block = dispatcher->inherits("QEventDispatcherGlib")
            ? calls_.before_iteration : calls_.about_to_block;
        connect(dispatcher, &QAbstractEventDispatcher::awake, this,
                [this] { call(calls_.before_iteration); });
        connect(dispatcher, &QAbstractEventDispatcher::aboutToBlock, this,
                [this, about_to_block] { call(about_to_block); });
        connect(qApp, &QCoreApplication::aboutToQuit, this, [this] { call(calls_.about_to_quit); });
        connect(qApp, &QObject::destroyed, this, [this] { call(calls_.application_gone); });
        // A program without windows is spared a look at each of its events.
        if (qApp->inherits("QGuiApplication"))
            qApp->installEventFilter(this);
    }

    void post()
    {
        // After the host's events of normal priority that are already there.
        QCoreApplication::postEvent(this, new QEvent(turn_event()), Qt::LowEventPriority);
    }

    // Starts the timer anew, or only stops it if `milliseconds` is negative.
    void set_timer(int milliseconds)
    {
        if (timer_ != 0)
            killTimer(timer_);
        timer_ = milliseconds < 0 ? 0 : startTimer(milliseconds, Qt::CoarseTimer);
    }

    // From now on nothing is called, and nothing of this is in the loop. The object itself goes
    // now, or after the outermost of its calls has returned.
    void retire()
    {
        data_ = nullptr;
        setEnabled(false);
        if (auto *dispatcher = QAbstractEventDispatcher::instance()) {
            set_timer(-1);
            dispatcher->disconnect(this);
        }
        if (qApp) {
            qApp->removeEventFilter(this);
            qApp->disconnect(this);
        }
        if (depth_ == 0)
            delete this;
    }

protected:
    bool event(QEvent *event) override
    {
        if (event->type() == QEvent::SockAct)
            call(calls_.readable);
        else if (event->type() == turn_event())
            call(calls_.turn);
        else if (event->type() == QEvent::Timer)
            call(calls_.timeout);
        else
            return QSocketNotifier::event(event);
        return true;
    }

    // A window's frame is what its UpdateRequest does: it paints and flushes, or renders and swaps.
    // The event is sent on from here, because nothing tells when its delivery has ended.
    bool eventFilter(QObject *watched, QEvent *event) override
    {
        if (event->type() != QEvent::UpdateRequest || drawing_ == watched || !data_)
            return false;
        auto *outer = drawing_;
        drawing_ = watched;
        if (!windows_.contains(watched)) {
            windows_.insert(watched, connect(watched, &QObject::destroyed, this, [this, watched] {
                windows_.remove(watched);
                if (drawing_ == watched)
                    drawing_ = nullptr;
                call(calls_.window_gone, watched);
            }));
        }
        const Depth depth(this);
        call(calls_.frame_begins, watched, refresh_rate());
        QCoreApplication::sendEvent(watched, event);
        call(calls_.frame_ends, watched);
        drawing_ = outer;
        return true;
    }

private:
    // An object may not be deleted inside its own event, other than by an event.
    struct Depth {
        EntwinedQtCarrier *carrier;
        explicit Depth(EntwinedQtCarrier *c) : carrier(c) { ++carrier->depth_; }
        Depth(const Depth &) = delete;
        ~Depth()
        {
            if (--carrier->depth_ == 0 && !carrier->data_)
                carrier->deleteLater();
        }
    };

    template<typename... Types, typename... Arguments>
    void call(void (*function)(const void *, Types...), Arguments... arguments)
    {
        if (!data_)
            return;
        const Depth depth(this);
        function(data_, arguments...);
    }

    // By properties, and so without linking QtGui.
    static double refresh_rate()
    {
        const auto *screen = qApp->property("primaryScreen").value<QObject *>();
        return screen ? screen->property("refreshRate").toDouble() : 0;
    }

    const EntwinedQtCalls calls_;
    const void *data_;
    int depth_ = 0;
    int timer_ = 0;
    // The windows that have drawn.
    QHash<QObject *, QMetaObject::Connection> windows_;
    // The window whose frame is on the stack.
    QObject *drawing_ = nullptr;
};

extern "C" {

// 0: this is the application's thread. 1: there is no application. 2: it is another thread's.
int entwined_qt_place() noexcept
{
    const auto *application = QCoreApplication::instance();
    if (!application || !QAbstractEventDispatcher::instance(application->thread()))
        return 1;
    return application->thread() == QThread::currentThread() ? 0 : 2;
}

EntwinedQtCarrier *entwined_qt_carrier_new(int fd, const EntwinedQtCalls *calls,
                                           const void *data) noexcept
{
    return new EntwinedQtCarrier(fd, calls, data);
}

void entwined_qt_carrier_post(EntwinedQtCarrier *carrier) noexcept { carrier->post(); }

void entwined_qt_carrier_set_timer(EntwinedQtCarrier *carrier, int milliseconds) noexcept
{
    carrier->set_timer(milliseconds);
}

void entwined_qt_carrier_retire(EntwinedQtCarrier *carrier) noexcept { carrier->retire(); }

void entwined_qt_iterate(bool may_block) noexcept
{
    auto *dispatcher = QAbstractEventDispatcher::instance();
    if (!dispatcher)
        return;
    dispatcher->processEvents(may_block ? QEventLoop::WaitForMoreEvents : QEventLoop::AllEvents);
    // Inside exec() that is done by the loop.
    if (QThread::currentThread()->loopLevel() == 0)
        QCoreApplication::sendPostedEvents(nullptr, QEvent::DeferredDelete);
}

void entwined_qt_wake_up() noexcept
{
    if (auto *dispatcher = QAbstractEventDispatcher::instance())
        dispatcher->wakeUp();
}

} // extern "C"
