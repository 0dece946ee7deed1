// What the tests need of Qt: an application, timers, a window that draws, a dialog, nested loops.

#include <QAbstractEventDispatcher>
#include <QApplication>
#include <QDialog>
#include <QElapsedTimer>
#include <QEventLoop>
#include <QLabel>
#include <QMenu>
#include <QPainter>
#include <QTimer>
#include <QVBoxLayout>

extern "C" {
// Implemented in Rust. They do not unwind. True: call it again.
bool qt_host_call(void *work);
void qt_host_drop(void *work);
}

namespace {

int argc = 1;
char name[] = "qt-host";
char *argv[] = { name, nullptr };

struct Work {
    void *work;
    explicit Work(void *w) : work(w) {}
    Work(const Work &) = delete;
    ~Work() { qt_host_drop(work); }
    bool operator()() { return qt_host_call(work); }
};

class Repeated final : public QTimer {
public:
    Repeated(QObject *parent, void *work) : QTimer(parent), work_(work) {}

protected:
    void timerEvent(QTimerEvent *) override
    {
        if (done_ || work_())
            return;
        // Not at once: this is its own event.
        done_ = true;
        stop();
        deleteLater();
    }

private:
    Work work_;
    bool done_ = false;
};

class Canvas final : public QWidget {
public:
    explicit Canvas(void *work) : work_(work)
    {
        setAttribute(Qt::WA_DeleteOnClose);
        resize(300, 200);
    }

protected:
    void paintEvent(QPaintEvent *) override
    {
        QPainter(this).fillRect(rect(), QColor(51, 102, 204));
        if (work_())
            // A frame later, as an animation would.
            QTimer::singleShot(16, this, [this] { update(); });
        else
            QTimer::singleShot(0, this, [this] { close(); });
    }

private:
    Work work_;
};

} // namespace

extern "C" {

void *qt_host_application(bool widgets)
{
    return widgets ? new QApplication(argc, argv) : new QCoreApplication(argc, argv);
}
void qt_host_application_delete(QCoreApplication *application) { delete application; }
int qt_host_exec() { return QCoreApplication::exec(); }
void qt_host_quit() { QCoreApplication::quit(); }
const char *qt_host_dispatcher()
{
    return QAbstractEventDispatcher::instance()->metaObject()->className();
}
const char *qt_host_version() { return qVersion(); }

// A parent for timers.
QObject *qt_host_object() { return new QObject; }
void qt_host_object_delete(QObject *object) { delete object; }
void qt_host_every(QObject *parent, int milliseconds, void *work)
{
    auto *timer = new Repeated(parent, work);
    timer->setTimerType(Qt::PreciseTimer);
    timer->start(milliseconds);
}

void qt_host_draw(void *work) { (new Canvas(work))->show(); }

void qt_host_process_events(int flags) { QCoreApplication::processEvents(QEventLoop::ProcessEventsFlags(flags)); }
void qt_host_dispatch(int flags)
{
    QAbstractEventDispatcher::instance()->processEvents(QEventLoop::ProcessEventsFlags(flags));
}

QDialog *qt_host_dialog()
{
    auto *dialog = new QDialog;
    auto *layout = new QVBoxLayout(dialog);
    layout->addWidget(new QLabel("A dialog: the callback that opened it waits, the network goes on."));
    dialog->setModal(true);
    return dialog;
}
void qt_host_dialog_exec(QDialog *dialog) { dialog->exec(); }
void qt_host_dialog_accept(QDialog *dialog) { dialog->accept(); }
void qt_host_dialog_delete(QDialog *dialog) { delete dialog; }

// A nested loop that only the host ends.
void qt_host_nested(int milliseconds, int flags)
{
    QEventLoop loop;
    QTimer::singleShot(milliseconds, &loop, &QEventLoop::quit);
    loop.exec(QEventLoop::ProcessEventsFlags(flags));
}

// As a menu runs one.
void qt_host_menu(int milliseconds)
{
    QMenu menu;
    menu.addAction("Nothing");
    QTimer::singleShot(milliseconds, &menu, &QMenu::close);
    menu.exec(QPoint(10, 10));
}

// Spins without sleeping, as a progress loop does.
void qt_host_spin(int milliseconds, int flags)
{
    QElapsedTimer timer;
    timer.start();
    while (timer.elapsed() < milliseconds)
        QCoreApplication::processEvents(QEventLoop::ProcessEventsFlags(flags));
}

} // extern "C"
