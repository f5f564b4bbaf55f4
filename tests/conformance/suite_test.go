// Package conformance runs containerd's suite for snapshotters over a layerfs daemon for each case.
// LAYERFS is the program, SNAPSHOTTER the name that requests carry.
package conformance

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/namespaces"
	_ "github.com/containerd/containerd/pkg/testutil"
	"github.com/containerd/containerd/snapshots"
	"github.com/containerd/containerd/snapshots/proxy"
	"github.com/containerd/containerd/snapshots/testsuite"
	"google.golang.org/grpc"
)

func start(ctx context.Context, root string) (snapshots.Snapshotter, func() error, error) {
	socket := filepath.Join(root, "s.sock")
	daemon := exec.Command(os.Getenv("LAYERFS"), "serve", "--address", socket, "--root", filepath.Join(root, "store"), "--containerd", "")
	daemon.Stderr = os.Stderr
	if err := daemon.Start(); err != nil {
		return nil, nil, err
	}
	for i := 0; i < 600; i++ {
		if _, err := os.Stat(socket); err == nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	conn, err := grpc.Dial("unix://"+socket, grpc.WithInsecure(), grpc.WithUnaryInterceptor(
		func(ctx context.Context, m string, q, a interface{}, c *grpc.ClientConn, i grpc.UnaryInvoker, o ...grpc.CallOption) error {
			return i(namespaces.WithNamespace(ctx, "testsuite"), m, q, a, c, o...)
		}))
	if err != nil {
		return nil, nil, err
	}
	s := proxy.NewSnapshotter(snapshotsapi.NewSnapshotsClient(conn), os.Getenv("SNAPSHOTTER"))
	return s, func() error {
		conn.Close()
		daemon.Process.Signal(os.Interrupt)
		return daemon.Wait()
	}, nil
}

func TestSnapshotter(t *testing.T) {
	testsuite.SnapshotterSuite(t, os.Getenv("SNAPSHOTTER"), start)
}
